"""Removal of old collected data."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from telemetry.payload_files import PayloadStore
from telemetry.payload_records import ROOT
from telemetry.script_tables import TABLES

_HOUR: Final = re.compile(rf"{ROOT}/[^/]+/[^/]+/[^/]+/(\d{{4}})/(\d\d)/(\d\d)/(\d\d)/[^/]+")
_DAY: Final = re.compile(rf"{TABLES}/.+/(\d{{4}})/(\d\d)/(\d\d)/[^/]+")


def time_of(name: str) -> datetime | None:
    """The end of the hour, or of the day, of a file of collected data; None for another file."""
    for pattern, length in ((_HOUR, timedelta(hours=1)), (_DAY, timedelta(days=1))):
        if (found := pattern.fullmatch(name)) is not None:
            try:
                return datetime(*map(int, found.groups()), tzinfo=UTC) + length  # type: ignore[misc,arg-type]
            except ValueError:
                return None
    return None


def aged(names: Iterable[str], keep_days: int, now: float) -> Iterator[str]:
    """The files older than `keep_days`. `now`: unix seconds."""
    limit = datetime.fromtimestamp(now, UTC) - timedelta(days=keep_days)
    return (name for name in names if (ended := time_of(name)) is not None and ended <= limit)


def surplus(sizes: dict[str, int], keep_bytes: int) -> Iterator[str]:
    """The oldest files, so that the others have at most `keep_bytes`. `sizes`: bytes by name."""
    total = sum(sizes.values())
    dated = sorted((ended, name) for name in sizes if (ended := time_of(name)) is not None)
    for _, name in dated:
        if total <= keep_bytes:
            return
        total -= sizes[name]
        yield name


def remove_old(store: PayloadStore, keep_days: int, keep_bytes: int, now: float) -> int:
    """Remove data beyond the limits; the number of files removed. Raises OSError.

    store: of the files. keep_days: 0: any age. keep_bytes: 0: any size. now: unix seconds.
    """
    if not keep_days and not keep_bytes:
        return 0
    names = [*store.names(ROOT), *store.names(TABLES)]
    old = set(aged(names, keep_days, now)) if keep_days else set()
    if keep_bytes:
        sizes = {name: store.size_bytes(name) or 0 for name in names if name not in old}
        old.update(surplus(sizes, keep_bytes))
    for name in old:
        store.delete(name)
    return len(old)
