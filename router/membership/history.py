"""The views of the routers of a cluster, kept in one ConfigMap of the Kubernetes API. Pure.

Every version of the object is one view. Its `epoch` grows with every write, and a write needs the `resourceVersion`
that was read: so there is one order, and every router sees a subsequence of it.

    epoch        a whole number
    pod.<NAME>   the record of the router in this pod (`PodRecord`)
    departed     members of ended routers, until their quarantine is over everywhere
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import msgspec

from router.core.view import Departed, View
from router.membership.agreement import MembershipPart, merged_view

NAME = "scorefront-routers"
_POD = "pod."


InFlight = Mapping[str, Mapping[str, int] | None]
"""Requests in flight by member and replica; a member that is missing, or None: unknown."""
NOTHING_KNOWN: InFlight = MappingProxyType({})


class HistoryError(Exception):
    """The object is invalid, e.g. edited by hand; the text names the key."""


class PodRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """The router of one pod."""

    group: str
    """Unique per start of the supervisor."""
    uid: str = ""
    """Uid of the pod; "" outside a cluster: then only its successor can report the end of the group."""
    part: MembershipPart = MembershipPart()
    started_at: float = 0.0
    """Start of the supervisor, unix seconds by the clock of its node; 0: unknown."""


@dataclass(frozen=True, slots=True)
class HistoryWrite:
    """An object to write: created if `fresh`, else replaced."""

    body: dict[str, Any]
    fresh: bool


@dataclass(frozen=True, slots=True)
class ViewHistory:
    """One version of the object."""

    epoch: int = 0
    records: Mapping[str, PodRecord] = field(default_factory=dict)
    """By name of the pod."""
    departed: tuple[Departed, ...] = ()

    def workers(self) -> frozenset[str]:
        """Names of all members; each of them reports usage."""
        return frozenset(self.owners())

    def owners(self) -> dict[str, str]:
        """Member -> the pod of its record."""
        return {member.name: pod for pod, record in self.records.items() for member in record.part.members}

    # ---- changes; the writer sets the epoch

    def said(self, pod: str, record: PodRecord) -> "ViewHistory":
        """With the record of a pod. An earlier group of the pod has ended: containers run one after the other."""
        before = self.records.get(pod)
        known = self if before is None or before.group == record.group else self.without(pod)
        return replace(known, records={**known.records, pod: record})

    def without(self, pod: str, held: InFlight = NOTHING_KNOWN) -> "ViewHistory":
        """Without an ended group. `held`: requests in flight of its members at the end, default unknown."""
        record = self.records.get(pod)
        if record is None:
            return self
        lost = tuple(Departed(member.name, held.get(member.name)) for member in record.part.members)
        others = {name: each for name, each in self.records.items() if name != pod}
        return replace(self, records=others, departed=(*self.departed, *record.part.departed, *lost))

    def accounted(self, held: InFlight) -> "ViewHistory":
        """With the requests in flight of departed members for which they were unknown."""
        return replace(
            self,
            departed=tuple(
                replace(each, held=held.get(each.name)) if each.held is None else each for each in self.departed
            ),
        )

    def forgetting(self, names: Collection[str]) -> "ViewHistory":
        """Without these departed members."""
        return replace(self, departed=tuple(each for each in self.departed if each.name not in names))

    def completed(self, before: "ViewHistory") -> "ViewHistory":
        """Merged with an earlier version, for an object that was created anew without it."""
        mine = {each.name for each in self.departed} | self.workers()
        departed = tuple(each for each in before.departed if each.name not in mine)
        records = {**before.records, **self.records}
        return ViewHistory(max(self.epoch, before.epoch), records, (*self.departed, *departed))


def after_end(history: ViewHistory, pod: str, group: str, held: InFlight) -> ViewHistory:
    """The history after the end of a group, the same if it is known with its requests in flight.

    `pod`, `group`: of the ended router. `held`: requests in flight of its members.
    """
    record = history.records.get(pod)
    ended = history.without(pod, held) if record is not None and record.group == group else history
    return ended.accounted(held)


def view(history: ViewHistory, ages: Mapping[str, float] | None = None) -> View:
    """The view of a version. `ages`: seconds since the departure of each departed member, at least."""
    parts = (*(history.records[pod].part for pod in sorted(history.records)), MembershipPart((), history.departed))
    plain = merged_view(history.epoch, parts)
    if not ages:
        return plain
    return replace(plain, departed=tuple(_aged(each, ages.get(each.name, 0.0)) for each in plain.departed))


def departed(history: ViewHistory) -> Iterable[Departed]:
    """All departed members, of ended and of running routers."""
    yield from history.departed
    for record in history.records.values():
        yield from record.part.departed


def _aged(one: Departed, age_s: float) -> Departed:
    return replace(one, age_s=max(age_s, one.age_s))


# ---- the object

_encode = msgspec.json.Encoder(order="sorted").encode
_record = msgspec.json.Decoder(PodRecord)
_departed = msgspec.json.Decoder(tuple[Departed, ...])


def encoded(history: ViewHistory) -> dict[str, str]:
    """`data` of the ConfigMap."""
    records = {f"{_POD}{pod}": _encode(record).decode() for pod, record in history.records.items()}
    return {"epoch": str(history.epoch), "departed": _encode(history.departed).decode(), **records}


def decoded(config_map: Mapping[str, Any]) -> ViewHistory:
    """The history in a ConfigMap. Raises HistoryError: a skipped record would count as an ended router."""
    data = config_map.get("data") or {}
    records = {}
    place = "epoch"
    try:
        epoch = int(data.get("epoch", "0"))
        place = "departed"
        gone = _departed.decode(data.get("departed", "[]"))
        for place, text in data.items():
            if place.startswith(_POD):
                records[place.removeprefix(_POD)] = _record.decode(text)
    except (ValueError, TypeError) as error:  # msgspec's are ValueErrors
        raise HistoryError(f"ConfigMap {NAME}, {place}: {error}") from error
    return ViewHistory(epoch, records, gone)


def next_version(history: ViewHistory, found: Mapping[str, Any] | None, namespace: str) -> HistoryWrite:
    """The write that makes `history` the next version of the object.

    `found`: the version that it replaces, whose foreign fields are kept; None: there is none. `namespace`: of it.
    """
    metadata: dict[str, Any] = {"name": NAME, "namespace": namespace}
    if found is not None:
        metadata = {name: value for name, value in found["metadata"].items() if name != "managedFields"}
    data = encoded(replace(history, epoch=history.epoch + 1))
    return HistoryWrite({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, found is None)
