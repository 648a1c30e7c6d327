"""The discovery language: Reset, Upsert, Remove.

A `Reset` is the complete state (keep what is unchanged, drop what is absent); Upserts and Removes follow in order.
Applying a change twice is harmless.
"""

from dataclasses import dataclass

from serving.replica import Replica


@dataclass(frozen=True, slots=True)
class Reset:
    """All existing replicas."""

    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Upsert:
    """A new or changed replica."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Remove:
    """A removed replica: its process has ended."""

    replica_id: str


Change = Reset | Upsert | Remove
