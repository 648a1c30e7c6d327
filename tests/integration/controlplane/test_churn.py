"""A control plane runs for months while endpoints come and go: nothing of those that have gone may stay."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from weakref import WeakValueDictionary

from autoscaler.policy import Direction
from cluster.provider import ProviderError
from controlplane.keys import KeyType
from serving.endpoint import VersionKey
from serving.replica import ReplicaState
from serving.usage import UsageReport, VersionUsage
from tests.fakes.plane import Bench, manifest, version

OURS = ("autoscaler", "cluster", "controlplane", "serving")
LIVES = 10
CONTAINERS = (dict, list, set, frozenset, tuple, deque)


def sizes(root: object) -> Counter[str]:
    """Size of every container reachable from an object of ours, by its class and attribute."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    todo = [("", root)]
    while todo:
        path, value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (*CONTAINERS, WeakValueDictionary)):
            found[path] += len(value)
            parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else list(value)
            todo += [(f"{path}[]", part) for part in parts]
        elif type(value).__module__.split(".")[0] in OURS:
            todo += [(f"{type(value).__name__}.{name}", part) for name, part in attributes(value)]
        elif bound := getattr(value, "__self__", None):
            todo.append((path, bound))
    return found


def attributes(value: object) -> Iterator[tuple[str, object]]:
    names = {name for each in type(value).__mro__ for name in getattr(each, "__slots__", ())}
    for name in names | getattr(value, "__dict__", {}).keys():
        if hasattr(value, name):
            yield name, getattr(value, name)


async def lives_and_goes(bench: Bench, name: str, number: int) -> None:
    """All that can happen to an endpoint, from its declaration to a word of it that comes too late."""
    blue = VersionKey(name, "blue")
    scaler = {"minReplicas": 1, "maxReplicas": 6, "scaleDownWindowInSeconds": 5}
    two = [version("blue", autoScaler=scaler, isDefault=True), version("green")]
    await bench.apply(manifest(name, versions=two))
    await bench.until(lambda: bench.provider.of(blue, ReplicaState.READY))
    told(bench, blue, number, busy=1, waiting=3)
    await bench.clock.advance(2)
    assert ("scale", blue, 6, frozenset()) in bench.provider.calls
    bench.provider.become(bench.provider.of(blue)[-1], ReplicaState.FAILED, "exit status 1")
    await bench.plane.endpoints.regenerate(name, KeyType.PRIMARY)
    for second in range(12):
        # The first order to have fewer is refused, and a replica that was withdrawn for it dies meanwhile.
        bench.provider.refusal = ProviderError("not now") if second < 9 else None
        if second == 8:
            assert bench.routers.retired[-1][0] == blue
            bench.provider.vanish(bench.provider.of(blue, ReplicaState.READY)[0])
        told(bench, blue, number, busy=0)
        await bench.clock.advance(1)
    assert any(
        record.decision.direction is Direction.DOWN for record in bench.plane.endpoints.decisions(name, "blue", 99)
    )
    bench.provider.vanish(bench.provider.of(blue, ReplicaState.READY)[0])
    await bench.apply(manifest(name))
    await bench.plane.endpoints.delete(name)
    told(bench, blue, number, busy=0)
    for replica in bench.provider.of(blue) + bench.provider.of(VersionKey(name, "green")):
        bench.plane.reports.replica_drained(replica)
    await bench.clock.advance(10)
    assert bench.provider.replicas == {}
    bench.plane.reports.replica_drained(f"{name}-blue-late")
    bench.plane.reports.worker_ended(f"w{number}")
    await bench.clock.advance(10)


def told(bench: Bench, key: VersionKey, number: int, busy: int, waiting: int = 0) -> None:
    """The worker's present reports."""
    now = bench.clock.now()
    usage = VersionUsage(*key, busy, 1, waiting, now - 1000.0, {})
    bench.plane.reports.workers_expected([f"w{number}"])
    bench.plane.reports.usage_reported(UsageReport(f"w{number}", now, (usage,), (key,) if waiting else ()))


async def test_nothing_stays_of_endpoints_that_have_gone(bench: Bench) -> None:
    for number in range(2):
        await lives_and_goes(bench, f"first-{number}", number)
    before = sizes(bench.plane)
    for number in range(LIVES):
        await lives_and_goes(bench, f"later-{number}", number)
    # A container tidied up at the next entry may hold one more or less of the last; a leak has one more of each.
    grown = {path: (before[path], size) for path, size in sizes(bench.plane).items() if size >= before[path] + LIVES}
    assert grown == {}


async def test_a_leak_would_be_found(bench: Bench) -> None:
    """The walk reaches every kind of container."""
    before = sizes(bench.plane)
    await bench.apply(manifest())
    told(bench, VersionKey("iris", "blue"), 1, busy=1, waiting=3)
    await bench.clock.advance(1)
    paths = {path for path, size in sizes(bench.plane).items() if size > before[path]}
    kept = {"Registry._declared", "ClusterView._by_id", "UtilizationFeed._versions", "DecisionLog._records"}
    assert kept | {"DesiredCounts._numbers", "ScalingLoop._versions"} <= paths
