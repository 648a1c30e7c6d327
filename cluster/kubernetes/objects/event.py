"""Events (events.k8s.io/v1) that a person understands: `kubectl describe sep NAME` shows them."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from cluster.kubernetes.objects.labels import GROUP

REPORTER = f"{GROUP}/control"
LONGEST_NOTE_BYTES = 1024
LONGEST_INSTANCE = 128


class EventType(StrEnum):
    """The two kinds that the API knows."""

    NORMAL = "Normal"
    WARNING = "Warning"


def event(
    regarding: Mapping[str, Any],
    type: EventType,
    reason: str,
    note: str,
    now: str,
    action: str = "Reconcile",
    instance: str = "scorefront-control",
) -> dict[str, Any]:
    """An Event about the object `regarding`. `reason` is one CamelCase word, `now` RFC 3339 in UTC.

    The same text about the same object has the same name: creating it again conflicts, and `repeated` is sent instead.
    """
    metadata = regarding["metadata"]
    reference = {
        "apiVersion": regarding["apiVersion"],
        "kind": regarding["kind"],
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "uid": metadata["uid"],
    }
    identity = "\n".join((metadata["uid"], type, reason, note))
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "eventTime": micro_time(now),
        "regarding": reference,
        "type": type.value,
        "reason": reason,
        "note": _cut(note),
        "action": action,
        "reportingController": REPORTER,
        "reportingInstance": instance[:LONGEST_INSTANCE],
    }


def repeated(stored: Mapping[str, Any], now: str) -> dict[str, Any]:
    """The merge patch that counts one more occurrence of an Event that exists."""
    count = (stored.get("series") or {}).get("count", 1) + 1
    return {"series": {"count": count, "lastObservedTime": micro_time(now)}}


def micro_time(now: str) -> str:
    """An RFC 3339 time in UTC with exactly six decimals, as the API server requires."""
    whole, _, fraction = now.removesuffix("Z").removesuffix("+00:00").partition(".")
    return f"{whole}.{fraction[:6]:0<6}Z"


def _cut(note: str) -> str:
    """At most as many bytes as the API takes."""
    encoded = note.encode()
    if len(encoded) <= LONGEST_NOTE_BYTES:
        return note
    return encoded[: LONGEST_NOTE_BYTES - 3].decode(errors="ignore") + "…"
