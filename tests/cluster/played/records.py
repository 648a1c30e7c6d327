"""Changes accepted by the API server, with the time of their watch event: numbers of replicas, and leaders."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tests.cluster.played.kube import Change, Kube

FENCE = "scorefront.io/fence"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scale:
    """A workload's wanted number as it was told; `fence`: of the leader that wrote last, as far as it says so."""

    at_s: float
    workload: str
    replicas: int
    fence: int = 0


@dataclass(frozen=True, slots=True)
class Lead:
    """A leader; `fence` counts the transitions."""

    at_s: float
    lease: str
    holder: str
    fence: int


class Record(Generic[T]):
    """Watches while it is entered; `seen` has one entry for each change, in order."""

    def __init__(self, kube: Kube, path: str, entry: Callable[[Change], T], selector: str = "") -> None:
        """`entry`: recorded part of a change."""
        self._kube, self._path, self._entry = kube, path, entry
        self._query = {"labelSelector": selector} if selector else {}
        self.seen: list[T] = []

    async def __aenter__(self) -> "Record[T]":
        self._watching = asyncio.create_task(self._watch(), name=f"record of {self._path}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        async with contextlib.aclosing(self._kube.changes(self._path, **self._query)) as changes:
            async for change in changes:
                self.seen.append(self._entry(change))


def scale(change: Change) -> Scale:
    """Of a Deployment; one that is gone wants none."""
    metadata = change.object["metadata"]
    fence = int((metadata.get("annotations") or {}).get(FENCE, "0").rpartition("/")[2])
    return Scale(change.at_s, metadata["name"], 0 if change.gone else change.object["spec"].get("replicas", 1), fence)


def lead(change: Change) -> Lead:
    """Of a Lease."""
    spec = change.object.get("spec", {})
    name = change.object["metadata"]["name"]
    return Lead(change.at_s, name, spec.get("holderIdentity") or "", spec.get("leaseTransitions", 0))


def scales(kube: Kube, namespace: str) -> Record[Scale]:
    """Of every version's workload in a namespace."""
    return Record(kube, f"/apis/apps/v1/namespaces/{namespace}/deployments", scale, "scorefront.io/endpoint")


def leads(kube: Kube, namespace: str) -> Record[Lead]:
    """Of every lease in a namespace."""
    return Record(kube, f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases", lead)


def steps(seen: Sequence[Scale], workload: str) -> list[Scale]:
    """The entries of one workload with a changed number, the first one included."""
    found: list[Scale] = []
    for each in seen:
        if each.workload == workload and (not found or found[-1].replicas != each.replicas):
            found.append(each)
    return found


def lowest(seen: Sequence[Scale], since_s: float, until_s: float) -> int:
    """The smallest number wanted at any moment of the time, of one workload's entries; -1 of nothing."""
    return min(_within(seen, since_s, until_s), default=-1)


def highest(seen: Sequence[Scale], since_s: float, until_s: float) -> int:
    """The largest, likewise."""
    return max(_within(seen, since_s, until_s), default=-1)


def _within(seen: Sequence[Scale], since_s: float, until_s: float) -> list[int]:
    """The wanted value at the beginning of the time, and the changes in it."""
    before = [each.replicas for each in seen if each.at_s <= since_s][-1:]
    return [*before, *(each.replicas for each in seen if since_s < each.at_s <= until_s)]


def fallen_back(seen: Sequence[Scale]) -> int:
    """Writes that carry an older fence than one that was there before: two leaders have written."""
    newest: dict[str, int] = {}
    count = 0
    for each in seen:
        count += each.fence < newest.get(each.workload, 0)
        newest[each.workload] = max(newest.get(each.workload, 0), each.fence)
    return count


def at_once(seen: Sequence[Lead]) -> int:
    """Changes of one lease's holder that did not come with a new transition: the count that makes a fence is wrong."""
    count = 0
    for before, after in itertools.pairwise(seen):
        taken = after.holder != before.holder and after.holder and before.holder
        count += bool(taken) and after.fence <= before.fence
    return count
