"""Reduction of a document to data that JSON can express, of limited size, before its fields are checked.

Documents come from files or the network through a YAML or JSON reader. They may be endless (YAML aliases), have keys
that are not text, or hold text that cannot be encoded. The result of `plain` has none of that.
"""

import math
from dataclasses import dataclass, field
from typing import Any

from serving.faults import Fault, InvalidManifest, Path, written

MAX_DEPTH = 64
MAX_VALUES = 100_000
_LEAST_INT, _GREATEST_INT = -(2**63), 2**63 - 1

RULE = "must be text, a finite number within 64 bits, true, false, null, a list, or a mapping with text keys"
KEY_RULE = "field names must be text; put quotes around it"
TEXT_RULE = "must be text that can be encoded as UTF-8"
SIZE_RULE = f"a document may hold at most {MAX_VALUES} values, nested at most {MAX_DEPTH} deep"


@dataclass(slots=True)
class _Copy:
    """One pass over a document."""

    faults: dict[Path, Fault] = field(default_factory=dict)
    values: int = 0

    def of(self, value: Any, path: Path) -> Any:
        """The same value in fresh dicts and lists, without entries whose key is not proper text."""
        self.values += 1
        if self.values > MAX_VALUES or len(path) > MAX_DEPTH:
            raise InvalidManifest((Fault(written(path[:4]), None, SIZE_RULE),))
        if isinstance(value, dict):
            return {key: self.of(item, (*path, key)) for key, item in value.items() if self._fits(key, path)}
        if isinstance(value, list):
            return [self.of(item, (*path, index)) for index, item in enumerate(value)]
        if not _sayable(value):
            self.faults[path] = Fault(written(path), value, TEXT_RULE if isinstance(value, str) else RULE)
        return value

    def _fits(self, key: Any, path: Path) -> bool:
        if isinstance(key, str) and _sayable(key):
            return True
        at = (*path, key)
        self.faults[at] = Fault(written(at), key, KEY_RULE if not isinstance(key, str) else TEXT_RULE)
        return False


def _sayable(value: Any) -> bool:
    match value:
        case None | bool():
            return True
        case int():
            return _LEAST_INT <= value <= _GREATEST_INT
        case float():
            return math.isfinite(value)
        case str():
            # Lone surrogates: JSON can spell them, UTF-8 cannot.
            return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
        case _:
            return False


def plain(document: Any) -> tuple[Any, dict[Path, Fault]]:
    """A copy of `document` that is safe to check, and a fault by path for everything JSON cannot express.

    Raises InvalidManifest at once for a document that is too deep, too large or endless.
    """
    copy = _Copy()
    return copy.of(document, ()), copy.faults
