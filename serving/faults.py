"""Report of broken rules: all of them, each with the path of the field, its value and the rule."""

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""Position of a value in a document: field names and list indexes, from the top."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule. `path` is in the notation of users: `spec.versions[0].trafficPercentile`."""

    path: str
    value: Any
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule} (got {shown(self.value)})"


_PLAIN_STEP = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def written(path: Path) -> str:
    """A path in the notation of users. Names that are not plain words are in brackets; the top is `(document)`."""
    text = ""
    for step in path:
        if isinstance(step, str) and len(step) <= 80 and _PLAIN_STEP.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text or "(document)"


class _Glance(reprlib.Repr):
    """A bounded repr in the notation of documents: lists in brackets, true, false and null."""

    def repr_tuple(self, value: tuple[Any, ...], level: int) -> str:
        return self.repr_list(list(value), level)

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"


def shown(value: Any, limit: int = 80) -> str:
    """A value for a message: one line of printable text, cut at `limit` characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    # A document may be deep, endless or huge (aliases, 10**5000): never take the repr of all of it.
    glance = _Glance()
    glance.maxlevel, glance.maxstring, glance.maxother = 4, limit * 2, limit * 2
    try:
        text = glance.repr(value)
    except Exception:
        # The repr of a foreign object, or of an int of thousands of digits, may fail; a message must not.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


class InvalidManifest(Exception):
    """A declared object that breaks at least one rule; none of it takes effect."""

    def __init__(self, faults: tuple[Fault, ...], subject: str = "") -> None:
        super().__init__("\n".join(f"{subject}: {fault}" if subject else str(fault) for fault in faults))
        self.faults = faults
        self.subject = subject
        """Name of the document, e.g. a file name; may be empty."""

    @classmethod
    def of_several(cls, refused: "Sequence[InvalidManifest]") -> "InvalidManifest":
        """One error with the faults of several documents."""
        if len(refused) == 1:
            return refused[0]
        whole = cls(tuple(fault for error in refused for fault in error.faults))
        whole.args = ("\n".join(map(str, refused)),)
        return whole
