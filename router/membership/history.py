"""One history of views for the routers of a cluster, kept in one object (a ConfigMap) of the Kubernetes API. Pure.

Every version of the object is one view. Its `epoch` grows with every write, and a write holds only if nobody else has
written since the object was read (`resourceVersion`): so there is one order, and everybody sees a subsequence of it.

    epoch        a whole number
    pod.<NAME>   what the router in this pod says of itself (`PodRecord`)
    departed     members of routers that are no more, until everybody has left alone what they had in use
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from router.core.view import Departed, View
from router.membership.agreement import MembershipPart, merged_view

NAME = "scorefront-routers"
_POD = "pod."


class HistoryError(Exception):
    """The object does not hold what it should: somebody else has written to it. The text names the place."""


class PodRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the router of one pod says of itself."""

    group: str
    """Unique per start of the supervisor."""
    uid: str = ""
    """Of the pod; "" outside a cluster: then nobody but its successor can tell that the group has ended."""
    part: MembershipPart = MembershipPart()


@dataclass(frozen=True, slots=True)
class ViewHistory:
    """One version of the object."""

    epoch: int = 0
    records: Mapping[str, PodRecord] = field(default_factory=dict)
    """By name of the pod."""
    departed: tuple[Departed, ...] = ()

    def workers(self) -> frozenset[str]:
        """Names of all members: whoever counts requests needs to hear each of them."""
        return frozenset(self.owners())

    def owners(self) -> dict[str, str]:
        """Member -> the pod that it is recorded for."""
        return {member.name: pod for pod, record in self.records.items() for member in record.part.members}

    # ---- what may be written next, but for the epoch

    def said(self, pod: str, record: PodRecord) -> "ViewHistory":
        """A group speaks for its pod. Another group that did before has ended: containers follow one another."""
        before = self.records.get(pod)
        known = self if before is None or before.group == record.group else self.without(pod)
        return replace(known, records={**known.records, pod: record})

    def without(self, pod: str) -> "ViewHistory":
        """The group of this pod has ended; of members that it has not told of, nobody knows what they had in flight."""
        record = self.records.get(pod)
        if record is None:
            return self
        lost = tuple(Departed(member.name, None) for member in record.part.members)
        others = {name: each for name, each in self.records.items() if name != pod}
        return replace(self, records=others, departed=(*self.departed, *record.part.departed, *lost))

    def forgetting(self, names: Collection[str]) -> "ViewHistory":
        """Without what is listed of these members of routers that are no more."""
        return replace(self, departed=tuple(each for each in self.departed if each.name not in names))

    def completed(self, before: "ViewHistory") -> "ViewHistory":
        """With everything that an earlier version held: this one was made anew, by somebody who did not know of it."""
        mine = {each.name for each in self.departed} | self.workers()
        departed = tuple(each for each in before.departed if each.name not in mine)
        records = {**before.records, **self.records}
        return ViewHistory(max(self.epoch, before.epoch), records, (*self.departed, *departed))


def view(history: ViewHistory, ages: Mapping[str, float] | None = None) -> View:
    """What a version of the object says. `ages`: for how long each departed member is known to be gone, in seconds."""
    parts = (*(history.records[pod].part for pod in sorted(history.records)), MembershipPart((), history.departed))
    plain = merged_view(history.epoch, parts)
    if not ages:
        return plain
    return replace(plain, departed=tuple(_aged(each, ages.get(each.name, 0.0)) for each in plain.departed))


def departed(history: ViewHistory) -> Iterable[Departed]:
    """Everybody who is told of as gone, by whom ever."""
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
    """What a ConfigMap holds. Raises HistoryError: who is left out counts as ended, so nothing may be skipped."""
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
