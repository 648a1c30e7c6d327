"""Manifests read from files: YAML (one document or several) or JSON, with paths made absolute and every rule checked.

Every error names the file and, for a syntax error, the line.
"""

import json
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scorefront.cli.command_errors import InvalidInput
from serving import strict_json
from serving.faults import Fault, InvalidManifest, shown
from serving.manifest import parse, resolve_paths

STDIN = "-"
MAX_FILE_BYTES = 1024 * 1024
MAX_EXPANDED_NODES = 100_000
"""Keys and values of one document, each alias counted as often as it is used: a few hundred bytes of nested aliases
stand for billions. An endpoint of six versions has a few hundred."""


class UnreadableFile(InvalidInput):
    """A file that cannot be read or has the wrong format."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One declared endpoint that has passed every check. `document` is as written, with absolute paths."""

    source: str
    """The name of the file it came from; with the number of the document, if the file has several."""
    name: str
    """The endpoint's name."""
    document: dict[str, Any]


def read_manifests(names: Sequence[str]) -> list[Manifest]:
    """Every document of every file, checked. `-` is standard input; its relative paths start at the current
    folder.

    Raises UnreadableFile, or InvalidManifest with the faults of the first file that has any.
    """
    manifests: dict[str, Manifest] = {}
    for name in names:
        for manifest in _checked(name, _folder_of(name)):
            earlier = manifests.setdefault(manifest.name, manifest)
            if earlier is not manifest:
                rule = f"is declared twice (first in {earlier.source}); each endpoint needs its own name"
                raise InvalidManifest((Fault("metadata.name", manifest.name, rule),), subject=manifest.source)
    return list(manifests.values())


def read_json_object(name: str) -> Any:
    """The value in one JSON file. Raises UnreadableFile."""
    return _parse_json(name, _read_text(name))


def _checked(name: str, base: Path) -> Iterator[Manifest]:
    documents = _documents(name)
    for number, document in enumerate(documents, 1):
        source = _title(name) if len(documents) == 1 else f"{_title(name)}, document {number}"
        resolved = resolve_paths(document, base)
        declared = parse(resolved, subject=source)
        yield Manifest(source, declared.metadata.name, resolved)


def _documents(name: str) -> list[Any]:
    text = _read_text(name)
    if name.endswith(".json"):
        documents = [_parse_json(name, text)]
    else:
        documents = [document for document in _parse_yaml(name, text) if document is not None]
    if not documents:
        raise UnreadableFile(f"{_title(name)}: is empty; it must hold a ScoringEndpoint")
    return documents


# ---- bytes


def _title(name: str) -> str:
    return "standard input" if name == STDIN else name


def _folder_of(name: str) -> Path:
    if name == STDIN or not Path(name).is_file():  # a pipe such as /dev/fd/63 has no folder of its own
        return Path.cwd()
    return Path(name).absolute().parent


def _read_text(name: str) -> str:
    title = _title(name)
    try:
        data = _read_bytes(name)
    except FileNotFoundError:
        raise UnreadableFile(f"{title}: there is no such file") from None
    except OSError as error:
        raise UnreadableFile(f"{title}: {error.strerror or error}") from None
    if len(data) > MAX_FILE_BYTES:
        raise UnreadableFile(f"{title}: is larger than {MAX_FILE_BYTES} bytes, the most a manifest may have")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UnreadableFile(f"{title}, line {line}: is not text in UTF-8") from None


def _read_bytes(name: str) -> bytes:
    if name == STDIN:
        return sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if stat.S_ISDIR(Path(name).stat().st_mode):
        raise UnreadableFile(f"{name}: is a folder; name a YAML or JSON file in it")
    with open(name, "rb") as file:
        return file.read(MAX_FILE_BYTES + 1)


# ---- JSON


def _parse_json(name: str, text: str) -> Any:
    title = _title(name)
    if not text.strip():
        raise UnreadableFile(f"{title}: is empty; it must hold a JSON object")
    try:
        return strict_json.parse(text)
    except json.JSONDecodeError as error:
        raise UnreadableFile(f"{title}, line {error.lineno}: is not JSON: {error.msg}") from None
    except ValueError as error:
        raise UnreadableFile(f"{title}: {error}") from None


# ---- YAML


class _Loader(yaml.SafeLoader):
    """SafeLoader without timestamps (a date stays the text it is), with unique keys and bounded aliases."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML declares it as a plain class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_document(self, node: yaml.Node) -> Any:
        # before construction: merging (`<<`) rewrites mappings, after which a repeated key is no longer a mistake
        _check_node(node, {}, ())
        return super().construct_document(node)


def _check_node(node: yaml.Node, sizes: dict[int, int], above: tuple[int, ...]) -> int:
    """Values under `node` with every alias written out; `sizes` remembers them by id, `above` holds the ids on the way
    down. Raises MarkedYAMLError on a key that repeats, on a cycle, and on more than the limit."""
    if id(node) in above:
        raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
    if id(node) not in sizes:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            _check_keys(node)
            children = [child for pair in node.value for child in pair]
        size = 1 + sum(_check_node(child, sizes, (*above, id(node))) for child in children)
        if size > MAX_EXPANDED_NODES:
            problem = f"stands for more than {MAX_EXPANDED_NODES} values"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        sizes[id(node)] = size
    return sizes[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            problem = f"the key {shown(key.value)} stands twice in one mapping"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def _parse_yaml(name: str, text: str) -> list[Any]:
    title = _title(name)
    try:
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{title}, line {mark.line + 1}" if mark else title
        raise UnreadableFile(f"{where}: is not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UnreadableFile(f"{title}: is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UnreadableFile(f"{title}: is nested too deeply") from None
    except ValueError as error:  # e.g. an integer of more digits than Python converts
        raise UnreadableFile(f"{title}: is not valid YAML: {error}") from None
