"""Detection of rival writers: clients other than scorefront that keep setting the number of a workload. Pure.

One change is adopted as the current number. After PATIENCE changes within WITHIN_S the conflict is named and scaling of
the version is suspended until there was no such change for QUIET_S. A change in the first PROBATION_S after that
suspends it again at once, for twice as long, up to LONGEST_QUIET_S.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cluster.kubernetes.objects.labels import MANAGER

PATIENCE = 3
"""Changes by others that make a conflict."""
WITHIN_S = 60.0
"""Time within which these changes count."""
QUIET_S = 300.0
"""Time without a change by others after which scaling is resumed."""
LONGEST_QUIET_S = 3600.0
"""Upper limit of the quiet time, which doubles with each further conflict."""
PROBATION_S = 3600.0
"""Time after a resumption in which one change is a conflict again."""

Place = tuple[str, str, str]
"""(kind, namespace, name)."""


@dataclass(frozen=True, slots=True)
class NumberChange:
    """A change of spec.replicas by another client."""

    writer: str
    """Field manager and operation: `argocd (Apply)`, `kubectl (Update of scale)`."""
    number: int
    at_s: float


@dataclass(frozen=True, slots=True)
class RivalState:
    """The changes of one workload's number by other clients."""

    recent: tuple[NumberChange, ...] = ()
    """The changes of the last WITHIN_S, oldest first."""
    conflict: str = ""
    """Text of the last conflict; "" if there was none."""
    last_s: float = 0.0
    """Time of the last change since the conflict."""
    quiet_s: float = QUIET_S
    """Quiet time of the last conflict."""

    def suspended(self, now: float) -> str:
        """Text of the conflict that suspends scaling at `now`; "" if none does."""
        return self.conflict if now < self.last_s + self.quiet_s else ""


def after(state: RivalState, change: NumberChange) -> RivalState:
    """The state after one more change."""
    now = change.at_s
    if state.suspended(now):
        return replace(state, last_s=now)
    recent = (*(each for each in state.recent if now - each.at_s <= WITHIN_S), change)
    if state.conflict and now < state.last_s + state.quiet_s + PROBATION_S:
        quiet_s = min(2 * state.quiet_s, LONGEST_QUIET_S)
        text = f"{change.writer} set {change.number} again after scaling was resumed"
        return RivalState((), _suspension(text, quiet_s), now, quiet_s)
    if len(recent) < PATIENCE:
        return RivalState(recent)
    return RivalState((), _suspension(_told(recent), QUIET_S), now)


class RivalWriters:
    """The rival writers of all workloads."""

    def __init__(self) -> None:
        self._numbers: dict[Place, int] = {}
        """Number of each workload as last seen."""
        self._states: dict[Place, RivalState] = {}

    def observe(self, place: Place, workload: Mapping[str, Any], now: float) -> NumberChange | None:
        """The change by another client since the workload was last seen; None if there is none.

        `workload`: every state in the order of the watch. `now`: seconds on a monotonic clock.
        """
        number = int((workload.get("spec") or {}).get("replicas", 1))
        before, self._numbers[place] = self._numbers.get(place), number
        if before is None or before == number:
            return None
        writer = writer_of_number(workload)
        return NumberChange(writer, number, now) if writer else None

    def count(self, place: Place, change: NumberChange) -> bool:
        """Count a change; True if it begins a conflict."""
        state = self._states.get(place, RivalState())
        self._states[place] = after(state, change)
        return not state.suspended(change.at_s) and bool(self.conflict(place, change.at_s))

    def conflict(self, place: Place, now: float) -> str:
        """Text of the conflict that suspends scaling of a workload; "" if none does."""
        state = self._states.get(place)
        return state.suspended(now) if state is not None else ""

    def forget(self, place: Place) -> None:
        """Forget a workload that no longer exists."""
        self._numbers.pop(place, None)
        self._states.pop(place, None)


def owns_number(entry: Mapping[str, Any]) -> bool:
    """True if an entry of `managedFields` has spec.replicas."""
    return "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})


def writer_of_number(workload: Mapping[str, Any]) -> str:
    """The other client that wrote spec.replicas last; "" if scorefront did, or if it is unknown."""
    entries = [each for each in workload["metadata"].get("managedFields") or () if owns_number(each)]
    if not entries:
        return ""
    # A write that changes the value takes the field from all others; equal values may have several owners.
    last = max(entries, key=lambda entry: str(entry.get("time") or ""))
    manager = str(last.get("manager") or "an unknown client")
    if manager == MANAGER:
        return ""
    subresource = last.get("subresource")
    return f"{manager} ({last.get('operation') or 'Update'}{f' of {subresource}' if subresource else ''})"


def _told(changes: tuple[NumberChange, ...]) -> str:
    """`argocd (Apply) set 1 three times in 6 s`."""
    writers = ", ".join(dict.fromkeys(each.writer for each in changes))
    numbers = [str(each.number) for each in changes]
    done = f"set {numbers[0]} three times" if len(set(numbers)) == 1 else f"set {', '.join(numbers)}"
    return f"{writers} {done} in {changes[-1].at_s - changes[0].at_s:.0f} s"


def _suspension(text: str, quiet_s: float) -> str:
    return f"{text}; scaling is suspended until there is no such change for {quiet_s / 60:.0f} min"
