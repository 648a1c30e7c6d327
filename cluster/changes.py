"""The only discovery language: Reset, Upsert, Remove.

A `Reset` is the whole truth (keep what is unchanged, drop what is absent); after it, Upserts and Removes are applied in
order. Applying the same change twice is harmless.
"""

from dataclasses import dataclass

from serving.replica import Replica


@dataclass(frozen=True, slots=True)
class Reset:
    """Every replica that exists now."""

    replicas: tuple[Replica, ...]


@dataclass(frozen=True, slots=True)
class Upsert:
    """A replica that is new or has changed."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Remove:
    """A replica that is gone: its process has ended."""

    replica_id: str


Change = Reset | Upsert | Remove
