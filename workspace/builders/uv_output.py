"""The output of uv: lines for the log of a build, and the package and reason of a failure. Pure."""

import re
from collections.abc import Sequence

_CACHED = re.compile(r"^DEBUG .*already cached: (\S+)==(\S+)")
_INSTALLED = re.compile(r"^ \+ ([^\s=]+)==(\S+)(.*)")
_INSTALLED_FROM = re.compile(r"^ \+ (\S+) @ (\S+)")
_NOISE = re.compile(r"^(DEBUG|TRACE|INFO) |^Using Python |^Using CPython |^Activate with|^Creating virtual")
_GLYPHS = re.compile(r"^\s*(?:[×╰├│]─?[─▶]*\s*|error:\s*|cause:\s*|Caused by:\s*|hint:\s*)*")
_CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@")
_NETWORK = re.compile(
    r"client error \(Connect\)|dns error|error sending request|Request failed after|operation timed out"
    r"|network is unreachable|connection (refused|reset)",
    re.IGNORECASE,
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded|os error 28\b|os error 122\b")
_NAME = r"`?([A-Za-z0-9][A-Za-z0-9._-]*)`?"
_CULPRITS = (
    re.compile(rf"Failed to (?:build|download|prepare|extract|read)(?: distributions?)?:? `{_NAME.strip('`?')}"),
    re.compile(rf"(?:build|build backend of) {_NAME} failed"),
    re.compile(rf"Because {_NAME}\S* (?:was not found|has no|is not|requires|needs|depends)"),
    re.compile(rf"no versions? of {_NAME}"),
    re.compile(rf"only [^.]*?{_NAME}[<>=!~]"),
    re.compile(rf"you require {_NAME}"),
    re.compile(r"/simple/([A-Za-z0-9][A-Za-z0-9._-]*)/?"),
    re.compile(r"/([A-Za-z0-9][A-Za-z0-9._]*)-[0-9][^/]*\.(?:whl|tar\.gz|zip)"),
)
MOST_REASON = 600
"""Longest reason, in characters."""


def without_credentials(text: str) -> str:
    """`text` without the users and passwords in addresses."""
    return _CREDENTIALS.sub(r"\1***@", text)


class UvOutput:
    """The output of one run, line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        """Those worth showing, without credentials."""
        self._cached: set[str] = set()

    def feed(self, line: str) -> str | None:
        """The line for the log; None: it is not worth showing."""
        if found := _CACHED.match(line):
            self._cached.add(found[1].lower())
        if not line.strip() or _NOISE.match(line):
            return None
        shown = without_credentials(line)
        if found := _INSTALLED.match(line):
            origin = "from the cache" if found[1].lower() in self._cached else "fetched"
            shown = f"{found[1]} {found[2]}: {origin}{without_credentials(found[3])}"
        elif found := _INSTALLED_FROM.match(line):
            shown = f"{found[1]}: from {without_credentials(found[2])}"
        self.lines.append(shown)
        return shown


def failure(lines: Sequence[str]) -> tuple[str, str]:
    """(package, reason) of a run that failed; package "": none is to blame. `lines`: of its output."""
    text = "\n".join(lines)
    if _NO_SPACE.search(text):
        return "", "no space left on the disk"
    start = next((place for place, line in enumerate(lines) if re.match(r"\s*(error:|×)", line)), None)
    told = lines[-5:] if start is None else lines[start:]
    reasons = [cleaned for line in told if (cleaned := _GLYPHS.sub("", line).strip())]
    reason = "; ".join(dict.fromkeys(reasons)) or "uv failed without a word"
    reason = reason.removeprefix("No solution found when resolving dependencies:").removeprefix(
        "No solution found when resolving dependencies; "
    )
    package = _culprit(reason)
    return package, _shortened(reason.strip())


def network_reason(lines: Sequence[str]) -> str:
    """The address that cannot be reached, and the last cause, on one line."""
    told = [cleaned for line in lines if (cleaned := _GLYPHS.sub("", line).strip())]
    fetched = [line for line in told if line.startswith("Failed to fetch")]
    return _shortened("; ".join(dict.fromkeys([*fetched[:1], *told[-1:]])))


def is_network_failure(lines: Sequence[str]) -> bool:
    """True for a run that failed because an index cannot be reached."""
    return _NETWORK.search("\n".join(lines)) is not None


def _culprit(reason: str) -> str:
    for pattern in _CULPRITS:
        if found := pattern.search(reason):
            return found[1].rstrip(".,")
    return ""


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_REASON else text[: MOST_REASON - 1] + "…"
