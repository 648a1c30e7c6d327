"""A router's place in the history of views: what it has read of it, has to add to it, and makes of it. Pure.

Why views stay exact. Only what the API server has taken counts, in its order. A group is declared dead only by who has
seen that its pod is no more, or runs in its pod after it; everybody else stays in the views, and nobody takes over what
those own.

While the API server is away nothing can be said. One exception: a router that was *alone* in the last view goes on by
itself (`cut_off`). Others that come meanwhile, by a server that only this router cannot reach, find its members in
their views and grant nothing before each of these has declared in such a view; and this router shows its workers none
before it holds what they have become.
"""

from dataclasses import dataclass, replace
from typing import Any

from router.core.view import View
from router.membership.agreement import MembershipPart
from router.membership.history import NAME, PodRecord, ViewHistory, decoded, departed, encoded, view

FORGET_LEASES = 2.0
"""For how many leases it stays listed who had what in use in a router that is no more. Everybody leaves that alone for
one, counted from the death at the latest from here on; the other is for lease lengths that differ while they are being
changed. For longer, routers that start then would leave alone what nobody uses any more."""


@dataclass(frozen=True, slots=True)
class HistoryWrite:
    """An object to be written: created where `fresh`, else replaced."""

    body: dict[str, Any]
    fresh: bool


@dataclass(frozen=True, slots=True)
class Suspect:
    """A group of another pod, to be looked after."""

    pod: str
    uid: str
    group: str


class RouterMembership:
    """One group. `now`: monotonic seconds."""

    def __init__(self, pod: str, uid: str, group: str, namespace: str, lease_s: float) -> None:
        """`uid`: of the pod; "" outside a cluster."""
        self.pod = pod
        self.history: ViewHistory | None = None
        """The newest version known; None: nobody has looked."""
        self.expelled = False
        """Others believe that this group has ended. It must end now, for nobody waits for its workers any more."""
        self._uid = uid
        self._group = group
        self._namespace = namespace
        self._forget_s = FORGET_LEASES * lease_s
        self._object: dict[str, Any] | None = None
        """What was read last, and what it holds; None where there is no object."""
        self._found: ViewHistory | None = None
        self._part: MembershipPart | None = None
        self._silenced = False
        """Whether a draft in which this group has no members may have been taken, after the last version read."""
        self._gone: dict[str, str] = {}
        """Pod -> the group that has ended with it, as somebody has seen."""
        self._gone_since: dict[str, float] = {}
        """Departed member -> since when at the latest it is gone."""
        self._local: ViewHistory | None = None
        """What this group has said to itself alone."""

    # ---- what happens

    def announce(self, part: MembershipPart) -> None:
        """What the group is now."""
        self._part = part
        if self._local is not None:
            self._local = self._with_own(self._local)

    def read(self, config_map: dict[str, Any] | None, now: float, asked_at: int = -1) -> None:
        """A version of the object, or None where there is none; older ones than the newest are ignored.

        `asked_at`: the epoch that was known when the API server was asked for the newest version; -1: it was not asked.
        What it answers can only be older if the object was put back to what it was, from a backup. Raises HistoryError.
        """
        if config_map is None:
            self._object, self._found = None, None
            self.history = self.history or ViewHistory()
            return
        found = decoded(config_map)
        known = self.history
        made_anew = self._object is None or _uid(self._object) != _uid(config_map)
        if known is not None and not made_anew and found.epoch < known.epoch and found.epoch >= asked_at:
            return
        if known is not None and (made_anew or found.epoch < known.epoch):
            self.history = found.completed(known)
        else:
            self._look_for_own(found)
            self._silenced = self._silenced and known is not None and found.epoch == known.epoch
            self.history = found
        self._object, self._found = config_map, found
        self._note(now)

    def gone(self, suspect: Suspect) -> None:
        """The API server says that this pod is no more (its object, or its last container)."""
        self._gone[suspect.pod] = suspect.group

    def continue_alone(self) -> bool:
        """The API server cannot be reached: go on alone if that is safe. Whether this group does."""
        history = self.history
        if self._local is None and history is not None and self._part is not None and self.is_alone():
            self._local = self._with_own(history)
        return self._local is not None

    # ---- what follows

    def draft(self, now: float) -> HistoryWrite | None:
        """What should be written now; None: nothing. Whatever becomes of it, `read` what there is then."""
        if self.history is None or self.expelled:
            return None
        if self._local is not None and self._part is not None and not self._part.members:
            return None  # whoever reads that nobody is here any more does not wait for those who come next
        wanted = self._tidied(self.history, now)
        if self._part is not None:
            wanted = wanted.said(self.pod, PodRecord(self._group, self._uid, self._part))
        if wanted == (self._found or ViewHistory(self.history.epoch)):
            return None
        if self._part is not None and not self._part.members:
            self._silenced = True
        return self._draft(wanted)

    def departure(self) -> HistoryWrite | None:
        """The version without this group, whose workers have all ended; None where it is in none."""
        history = self.history
        record = history.records.get(self.pod) if history is not None else None
        if history is None or record is None or record.group != self._group:
            return None
        last = record if self._part is None else PodRecord(self._group, self._uid, self._part)
        return self._draft(history.said(self.pod, last).without(self.pod))

    def view(self, now: float) -> View | None:
        """The newest one; None while nothing is known."""
        ages = {name: now - since for name, since in self._gone_since.items()}
        if self._local is not None:
            own = self._local.records[self.pod]
            if self.history is None or self.history.records.get(self.pod) != own:
                return view(self._local, ages)
            self._local = None
        return view(self.history, ages) if self.history is not None else None

    def is_alone(self) -> bool:
        """Nobody else may have slots; nor can anybody get any while this pod lives and its router says nothing: it has
        members for whom the others wait.
        """
        records = self.history.records if self.history is not None else {}
        own = records.get(self.pod)
        if own is None or self._silenced or self.expelled:
            return False
        return len(records) == 1 and own.uid == self._uid and bool(own.part.members)

    def suspects(self) -> list[Suspect]:
        """Groups in other pods."""
        records = self.history.records.items() if self.history is not None else ()
        return [Suspect(pod, each.uid, each.group) for pod, each in records if pod != self.pod and each.uid]

    @property
    def routers(self) -> int:
        """How many take part."""
        return len(self.history.records) if self.history is not None else 0

    def known(self) -> dict[str, Any] | None:
        """The newest version of the object, to be kept for a start without the API server."""
        return self._object

    # ---- inside

    def _tidied(self, history: ViewHistory, now: float) -> ViewHistory:
        """Less what has ended, and what everybody has left alone for long enough."""
        for pod, group in list(self._gone.items()):
            record = history.records.get(pod)
            if record is not None and record.group == group:
                history = history.without(pod)
            else:
                del self._gone[pod]  # somebody has written that already
        old = {each.name for each in history.departed if self._age(each.name, now) >= self._forget_s}
        return history.forgetting(old) if old else history

    def _age(self, name: str, now: float) -> float:
        return now - self._gone_since.get(name, now)

    def _draft(self, wanted: ViewHistory) -> HistoryWrite:
        local = self._local.epoch if self._local is not None else 0
        metadata: dict[str, Any] = {"name": NAME, "namespace": self._namespace}
        if self._object is not None:
            metadata = {name: value for name, value in self._object["metadata"].items() if name != "managedFields"}
        data = encoded(replace(wanted, epoch=max(wanted.epoch, local) + 1))
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        return HistoryWrite(body, fresh=self._object is None)

    def _with_own(self, history: ViewHistory) -> ViewHistory:
        assert self._part is not None, "only who has something to say speaks to itself"
        said = history.said(self.pod, PodRecord(self._group, self._uid, self._part))
        return replace(said, epoch=history.epoch + 1)

    def _look_for_own(self, found: ViewHistory) -> None:
        before = self.history.records.get(self.pod) if self.history is not None else None
        after = found.records.get(self.pod)
        was_there = before is not None and before.group == self._group
        self.expelled = self.expelled or (was_there and (after is None or after.group != self._group))

    def _note(self, now: float) -> None:
        assert self.history is not None
        since = {each.name: now - each.age_s for each in departed(self.history)}
        self._gone_since = {name: min(at, self._gone_since.get(name, at)) for name, at in since.items()}


def _uid(config_map: dict[str, Any]) -> str:
    return str(config_map["metadata"].get("uid", ""))
