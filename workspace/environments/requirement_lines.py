"""Lines of pip requirements in their canonical form: one spelling for equal requirements. Pure."""

import re
import shlex
from collections.abc import Iterator, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name, canonicalize_version

OPTIONS = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
    "--no-index": "--no-index",
    "--pre": "--pre",
    "--no-binary": "--no-binary",
    "--only-binary": "--only-binary",
    "--trusted-host": "--trusted-host",
}
"""Option of pip -> its long name."""
FLAGS = frozenset({"--no-index", "--pre"})
"""Options without a value."""
WITHOUT_EFFECT = ("--prefer-binary", "--require-hashes", "--use-feature", "--no-cache-dir", "--progress-bar", "--quiet")
EDITABLE = ("-e", "--editable")
INCLUDED = {"-r": "-r", "--requirement": "-r", "-c": "-c", "--constraint": "-c"}
"""Option that names another file -> its short name."""
PACKAGE_URL = re.compile(r"(git|hg|svn|bzr)\+\w+://|https?://|file://", re.IGNORECASE)
LOCAL_PATH = re.compile(r"\.{0,2}/|\.{1,2}$|[A-Za-z]:\\|.*\.(whl|tar\.gz|zip)$")


class InvalidLine(ValueError):
    """A line of requirements that breaks a rule; the text is the rule."""


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, content) of the lines of a requirements file: continued ones joined, without comments and empty ones."""
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        start = start if pending else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            pending += line[:-1] + " "
            continue
        content = re.sub(r"(^|\s)#.*$", "", pending + line).strip()
        pending = ""
        if content:
            yield start, content
    if pending.strip():
        yield start, pending.strip()


def canonical_line(line: str) -> str:
    """A requirement or an option in its canonical form; "" for an option without effect here. Raises InvalidLine."""
    return _option(line) if line.startswith("-") else _requirement(line)


def included_file(line: str) -> tuple[str, str] | None:
    """(`-r` or `-c`, path) of a line that includes another file; None for other lines."""
    option, value = split_option(line)
    return (INCLUDED[option], value) if option in INCLUDED and value else None


def split_option(line: str) -> tuple[str, str]:
    """(option, value) of a line that begins with an option; ("", "") for others."""
    found = re.match(r"(--[A-Za-z][-A-Za-z]*|-[A-Za-z])(?:\s*=\s*|\s+|$)?(.*)", line)
    return (found[1], found[2].strip()) if found else ("", "")


def requirement_name(line: str) -> str:
    """The name of a canonical requirement; "" for options and packages by address."""
    found = re.match(r"[a-z0-9][a-z0-9-]*(?=$|[\[\s=<>!~;@])", line)
    return found[0] if found and not PACKAGE_URL.match(line) else ""


def sorted_lines(lines: Sequence[str]) -> tuple[str, ...]:
    """Canonical lines: options in their order, then requirements in order of their names; each once."""
    options = dict.fromkeys(line for line in lines if line.startswith("-"))
    return (*options, *sorted({line for line in lines if line and not line.startswith("-")}))


def _option(line: str) -> str:
    option, value = split_option(line)
    if option in WITHOUT_EFFECT:
        return ""
    if option in EDITABLE and value:
        return f"-e {value}"
    if included_file(line) is not None:
        raise InvalidLine("names another file, which goes only into a requirements file")
    if option not in OPTIONS:
        raise InvalidLine(f"must be a requirement, or one of the options {', '.join(sorted(set(OPTIONS.values())))}")
    name = OPTIONS[option]
    if (name in FLAGS) is bool(value):
        raise InvalidLine("takes no value" if value else "needs a value")
    return f"{name} {value}".strip()


def _requirement(line: str) -> str:
    body, *hashes = re.split(r"\s+(?=--[a-z-]+[= ])", line)
    if PACKAGE_URL.match(body) or (LOCAL_PATH.match(body) and "@" not in body):
        return body
    try:
        requirement = Requirement(body)
    except InvalidRequirement as error:
        raise InvalidLine(f"must be a requirement of pip, e.g. numpy==1.26.4: {str(error).splitlines()[0]}") from None
    extras = f"[{','.join(sorted(map(canonicalize_name, requirement.extras)))}]" if requirement.extras else ""
    text = f"{canonicalize_name(requirement.name)}{extras}"
    if requirement.url:
        text += f" @ {requirement.url}"
    else:
        text += ",".join(sorted(map(_clause, requirement.specifier)))
    if requirement.marker is not None:
        text += f"{' ' if requirement.url else ''}; {requirement.marker}"
    return " ".join([text, *sorted(" ".join(shlex.split(each)) for each in hashes)])


def _clause(clause: Specifier) -> str:
    """One clause of a specifier: 1.0 and 1.00 are the same version."""
    wild = clause.version.endswith(".*")
    if wild or clause.operator == "===":
        return f"{clause.operator}{clause.version}"
    kept = clause.operator == "~="  # ~=1.0 is not ~=1
    return f"{clause.operator}{canonicalize_version(clause.version, strip_trailing_zero=not kept)}"
