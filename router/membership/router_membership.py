"""Membership of one router: the versions read, the version to write, the view that follows. Pure.

Views stay exact: only writes accepted by the API server count, in its order. A group is removed only by a router that
has seen the end of its pod or of its container, or by its successor in the same pod; all others stay in the views and
keep their versions.

Without the API server membership is frozen, except that a router that was *alone* in the last view may replace its own
workers (`continue_alone`). A router that joins meanwhile, through an API server that only this router cannot
reach, finds this router's members in its views and grants nothing until each of them has declared in such a view; and
this router shows its workers no view before it contains their latest state.
"""

from dataclasses import dataclass, replace
from typing import Any

from router.core.view import View
from router.membership.agreement import MembershipPart
from router.membership.history import HistoryWrite, PodRecord, ViewHistory, decoded, departed, next_version, view

FORGET_LEASES = 2.0
"""Leases for which members of an ended router stay listed. One is the quarantine of their slots; the other allows for
lease lengths that differ during a change of the setting. Longer would quarantine free slots in routers that start
later."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A group in another pod, to be checked."""

    pod: str
    uid: str
    group: str
    started_at: float = 0.0
    """See `PodRecord`."""


class RouterMembership:
    """The membership of one group. `now`: monotonic seconds."""

    def __init__(self, pod: str, uid: str, group: str, namespace: str, lease_s: float, started_at: float = 0.0) -> None:
        """`pod`, `uid`: of this router; uid "" outside a cluster. `group`: id of its supervisor.

        `namespace`: of the object. `lease_s`: length of a slot lease. `started_at`: start of the supervisor, see
        `PodRecord`; default unknown.
        """
        self.pod = pod
        self.history: ViewHistory | None = None
        """The newest version known; None before the first read."""
        self.expelled = False
        """True if others have removed this group: it must end now, since its slots are no longer reserved."""
        self._uid = uid
        self._group = group
        self._namespace = namespace
        self._started_at = started_at
        self._forget_s = FORGET_LEASES * lease_s
        self._object: dict[str, Any] | None = None
        """The object read last; None if there is none."""
        self._found: ViewHistory | None = None
        self._part: MembershipPart | None = None
        self._silenced = False
        """True if a version without members of this group may have been written after the last one read."""
        self._gone: dict[str, str] = {}
        """Ended pod -> its group."""
        self._gone_since: dict[str, float] = {}
        """Departed member -> latest possible time of its end."""
        self._local: ViewHistory | None = None
        """The history continued without the API server; None: not continued."""

    # ---- events

    def announce(self, part: MembershipPart) -> None:
        """Set the part of this group."""
        self._part = part
        if self._local is not None:
            self._local = self._with_own(self._local)

    def read(self, config_map: dict[str, Any] | None, now: float, asked_at: int = -1) -> None:
        """Take in a version of the object, or None if there is none; older versions are ignored.

        `now`: monotonic seconds. `asked_at`: the epoch known at a request for the newest version, default -1: not
        requested. An older answer to such a request means an object restored from a backup. Raises HistoryError.
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
        """The group has ended, by the status of its pod."""
        self._gone[suspect.pod] = suspect.group

    def continue_alone(self) -> bool:
        """Continue without the API server if this is safe; True if this group does."""
        history = self.history
        if self._local is None and history is not None and self._part is not None and self.is_alone():
            self._local = self._with_own(history)
        return self._local is not None

    # ---- results

    def draft(self, now: float) -> HistoryWrite | None:
        """The version to write now, or None; `read` the outcome afterwards."""
        if self.history is None or self.expelled:
            return None
        if self._local is not None and self._part is not None and not self._part.members:
            return None  # without members here, other routers would not wait for the next ones
        wanted = self._tidied(self.history, now)
        if self._part is not None:
            wanted = wanted.said(self.pod, self._own_record(self._part))
        if wanted == (self._found or ViewHistory(self.history.epoch)):
            return None
        if self._part is not None and not self._part.members:
            self._silenced = True
        return self._draft(wanted)

    def departure(self) -> HistoryWrite | None:
        """The version without this group, after the end of its workers; None if it has no record."""
        history = self.history
        record = history.records.get(self.pod) if history is not None else None
        if history is None or record is None or record.group != self._group:
            return None
        last = record if self._part is None else self._own_record(self._part)
        return self._draft(history.said(self.pod, last).without(self.pod))

    def view(self, now: float) -> View | None:
        """The newest view; None before the first read."""
        ages = {name: now - since for name, since in self._gone_since.items()}
        if self._local is not None:
            own = self._local.records[self.pod]
            if self.history is None or self.history.records.get(self.pod) != own:
                return view(self._local, ages)
            self._local = None
        return view(self.history, ages) if self.history is not None else None

    def is_alone(self) -> bool:
        """True if no other router can hold or get slots.

        A router that joins waits for the declarations of this one's members, so there must be members.
        """
        records = self.history.records if self.history is not None else {}
        own = records.get(self.pod)
        if own is None or self._silenced or self.expelled:
            return False
        return len(records) == 1 and own.uid == self._uid and bool(own.part.members)

    def suspects(self) -> list[Suspect]:
        """Groups in other pods, to be checked."""
        records = self.history.records.items() if self.history is not None else ()
        return [
            Suspect(pod, each.uid, each.group, each.started_at) for pod, each in records if pod != self.pod and each.uid
        ]

    @property
    def routers(self) -> int:
        """Number of routers with a record."""
        return len(self.history.records) if self.history is not None else 0

    def known(self) -> dict[str, Any] | None:
        """The newest object, to be kept for a start without the API server."""
        return self._object

    # ---- inside

    def _tidied(self, history: ViewHistory, now: float) -> ViewHistory:
        """Without ended groups, and without departed members after their quarantine."""
        for pod, group in list(self._gone.items()):
            record = history.records.get(pod)
            if record is not None and record.group == group:
                history = history.without(pod)
            else:
                del self._gone[pod]  # already written by another router
        old = {each.name for each in history.departed if self._age(each.name, now) >= self._forget_s}
        return history.forgetting(old) if old else history

    def _age(self, name: str, now: float) -> float:
        return now - self._gone_since.get(name, now)

    def _draft(self, wanted: ViewHistory) -> HistoryWrite:
        local = self._local.epoch if self._local is not None else 0
        return next_version(replace(wanted, epoch=max(wanted.epoch, local)), self._object, self._namespace)

    def _with_own(self, history: ViewHistory) -> ViewHistory:
        assert self._part is not None, "announced before continue_alone"
        said = history.said(self.pod, self._own_record(self._part))
        return replace(said, epoch=history.epoch + 1)

    def _own_record(self, part: MembershipPart) -> PodRecord:
        return PodRecord(self._group, self._uid, part, self._started_at)

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
