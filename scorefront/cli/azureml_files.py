"""Files of the Azure ML command lines: YAML or JSON in UTF-8 or UTF-16, read as leniently as they were written."""

import codecs
import os
import re
from pathlib import Path
from typing import Any

from scorefront.cli.command_errors import CommandError
from scorefront.cli.manifest_files import UnreadableFile, parse_json, parse_yaml, read_bytes

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TEXT = r'"(?:\\.|[^"\\])*"'
_COMMENT = re.compile(rf"{_TEXT}|//[^\n]*|/\*.*?\*/", re.DOTALL)
_TRAILING_COMMA = re.compile(rf"{_TEXT}|,(?=\s*[}}\]])")


def read_documents(name: str) -> list[Any]:
    """The documents in a file, without empty ones. Raises UnreadableFile."""
    text = decoded(name, read_bytes(name))
    if not text.lstrip().startswith(("{", "[")):
        return [document for document in parse_yaml(name, text) if document is not None]
    try:
        return [parse_json(name, strict_json(text))]
    except UnreadableFile as refusal:
        try:
            return parse_yaml(name, text)
        except UnreadableFile:
            raise refusal from None


def decoded(name: str, data: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a mark. Raises UnreadableFile.

    name: of the file.
    data: its bytes.
    """
    if data.startswith(UTF_16):
        encoding = "utf-16"
    elif data[:4].count(0) >= 1:  # JSON and YAML begin with ASCII
        encoding = "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise UnreadableFile(f"{name}: is not text in UTF-8 or UTF-16") from None


def strict_json(text: str) -> str:
    """JSON text without comments (// and /* */) and without the commas before a closing bracket."""
    for superfluous in (_COMMENT, _TRAILING_COMMA):
        text = superfluous.sub(lambda found: found[0] if found[0].startswith('"') else "", text)
    return text


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in place of an older one. Raises CommandError."""
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(text + "\n")
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
