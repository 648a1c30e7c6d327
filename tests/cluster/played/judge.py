"""Conclusions from journal, witness and records together. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from loadtests.witness import Span
from tests.cluster.played import journal
from tests.cluster.played.journal import Entry
from tests.cluster.played.records import Scale


def raised_after_s(seen: Sequence[Scale], since_s: float) -> float:
    """From a moment to the news that more replicas are wanted than were then; infinite if that did not come."""
    before = [each.replicas for each in seen if each.at_s <= since_s]
    raised = [each.at_s for each in seen if each.at_s > since_s and before and each.replicas > before[-1]]
    return raised[0] - since_s if raised else float("inf")


def first_request_s(entries: Sequence[Entry], spans: Sequence[Span], since_s: float) -> list[float]:
    """For each pod reported Ready after `since_s`: delay of its first request.

    Counted from the sending of the status with Ready, earlier than its arrival at the API server.
    """
    uids = {str(entry.pid): entry.uid for entry in journal.pods(entries).values()}
    ready = {uid: entry.at_s for uid, entry in journal.first(entries, journal.READY).items()}
    began: dict[str, float] = {}
    for span in spans:
        uid = uids.get(span.replica)
        if uid is not None:
            began[uid] = min(span.began_s, began.get(uid, span.began_s))
    return [at_s - ready[uid] for uid, at_s in began.items() if ready.get(uid, 0.0) > since_s]


@dataclass(frozen=True, slots=True)
class Removal:
    """A pod that was deleted. `late`: requests that it still worked on then, or began afterwards."""

    pod: str
    at_s: float
    late: int


def removals(entries: Sequence[Entry], spans: Sequence[Span], since_s: float, prefix: str) -> list[Removal]:
    """Removals of the pods with this name prefix (namespace/name), in order."""
    pids = {entry.uid: str(pid) for pid, entry in journal.pods(entries).items()}
    found = []
    for uid, entry in journal.first(entries, journal.LEAVING).items():
        if entry.at_s >= since_s and entry.pod.startswith(prefix):
            late = sum(span.replica == pids.get(uid) and span.ended_s > entry.at_s for span in spans)
            found.append(Removal(entry.pod, entry.at_s, late))
    return sorted(found, key=lambda each: each.at_s)


def most_alive(entries: Sequence[Entry], since_s: float, until_s: float, prefix: str) -> int:
    """The most pods that were bound and not yet ordered to leave at one moment of the time."""
    moments = []
    leaving = journal.first(entries, journal.LEAVING)
    for uid, entry in journal.first(entries, journal.BOUND).items():
        if entry.pod.startswith(prefix):
            end_s = leaving[uid].at_s if uid in leaving else float("inf")
            if end_s > since_s and entry.at_s <= until_s:
                moments += [(max(since_s, entry.at_s), 1), (end_s, -1)]
    most = alive = 0
    for _, step in sorted(moments):
        alive += step
        most = max(most, alive)
    return most


def of(spans: Sequence[Span], entries: Sequence[Entry], prefix: str) -> list[Span]:
    """Entries of the pods with this name prefix."""
    pids: Collection[str] = {str(pid) for pid, entry in journal.pods(entries).items() if entry.pod.startswith(prefix)}
    return [span for span in spans if span.replica in pids]
