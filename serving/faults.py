"""How broken rules are reported: every one, each with the field's path, the value and the rule."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule. `path` is written as a user would: `spec.versions[0].trafficPercentile`."""

    path: str
    value: Any
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule} (got {shown(self.value)})"


def shown(value: Any, limit: int = 80) -> str:
    """A value as it may be shown in a message: one line, cut at `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class InvalidManifest(Exception):
    """What was declared breaks at least one rule; nothing of it was taken over."""

    def __init__(self, faults: tuple[Fault, ...], subject: str = "") -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults
        self.subject = subject
        """What was being read, e.g. a file name; may be empty."""
