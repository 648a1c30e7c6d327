"""A view of a mapping in the document for the rules between fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.faults import Fault, Path, written


class Unjudgeable(Exception):
    """A value that a rule needs is itself broken."""


@dataclass(frozen=True, slots=True)
class Node:
    """A mapping in the document with its path, and the paths with a fault."""

    fields: Mapping[str, Any]
    path: Path
    broken: frozenset[Path]

    def has(self, field: str) -> bool:
        """True if the user gave the field. Null counts as absent."""
        return self.fields.get(field) is not None

    def get(self, field: str, default: Any = None) -> Any:
        """The value of a field. Raises Unjudgeable if the field is itself broken."""
        if (*self.path, field) in self.broken:
            raise Unjudgeable
        value = self.fields.get(field)
        return default if value is None else value

    def sound(self, field: str, default: Any = None) -> Any:
        """The value of a field; `default` also if it is broken."""
        return default if (*self.path, field) in self.broken else self.get(field, default)

    def node(self, field: str) -> "Node":
        """The mapping at `field`; empty if absent. Raises Unjudgeable."""
        value = self.get(field, {})
        if not isinstance(value, dict):
            raise Unjudgeable
        return Node(value, (*self.path, field), self.broken)

    def nodes(self, field: str) -> list["Node"]:
        """The mappings in the list at `field`. Raises Unjudgeable."""
        value = self.get(field, [])
        if not isinstance(value, list):
            raise Unjudgeable
        at = (*self.path, field)
        return [Node(item, (*at, i), self.broken) for i, item in enumerate(value) if isinstance(item, dict)]

    def fault(self, field: str, rule: str) -> Fault:
        """A fault of this field."""
        return Fault(written((*self.path, field)), self.fields.get(field), rule)

    def at(self, value: Any, rule: str) -> Fault:
        """A fault of this mapping as a whole."""
        return Fault(written(self.path), value, rule)
