import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cluster.link import RemoveEndpoint, ResetAll, SetKeys, SetTrust, UpsertEndpoint, UpsertReplica
from cluster.provider import ProviderError
from cluster.timed_line import TimedLine
from controlplane.control_errors import ConflictingChange, NoSuchEndpoint, NoSuchVersion, StoreError
from controlplane.keys import KeyPair, KeyType, digests
from controlplane.registry import ApplyOutcome
from controlplane.state import StoredEndpoint
from controlplane.statedir import StateDirectory
from controlplane.tokens import ROTATE_EVERY_S
from serving.endpoint import VersionKey
from serving.faults import Fault, InvalidManifest
from serving.replica import Replica, ReplicaState
from serving.usage import UsageReport, VersionUsage
from tests.fakes.plane import Bench, manifest, version

BLUE, GREEN = VersionKey("iris", "blue"), VersionKey("iris", "green")
READY, DRAINING = ReplicaState.READY, ReplicaState.DRAINING
TWO = [version("blue", isDefault=True), version("green", trafficPercentile=10)]


# ---- declaring


async def test_a_declared_endpoint_runs_and_is_published_to_the_routers(bench: Bench) -> None:
    view, outcome = await bench.plane.endpoints.apply(manifest())
    await bench.until(lambda: bench.routers.told(UpsertReplica))
    assert outcome == "created"
    assert bench.provider.asked("apply") == [("apply", "iris", {"blue": 1})]
    assert view["status"]["scoringUri"] == "http://127.0.0.1:8080/api/v1/service/iris/score"
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["ready"] == 1


async def test_routers_learn_of_an_endpoint_before_its_replicas(bench: Bench) -> None:
    await bench.apply(manifest())
    await bench.until(lambda: bench.routers.told(UpsertReplica))
    kinds = [type(message) for message in bench.routers.published]
    assert kinds.index(UpsertEndpoint) < kinds.index(UpsertReplica)
    assert kinds.count(SetKeys) == 1


async def test_declaring_again_changes_and_keeps_the_keys(bench: Bench) -> None:
    await bench.apply(manifest())
    keys = bench.plane.endpoints.keys("iris")
    view, outcome = await bench.plane.endpoints.apply(manifest(versions=TWO))
    assert outcome == "changed" and list(view["status"]["versions"]) == ["blue", "green"]
    assert bench.plane.endpoints.keys("iris") == keys


async def test_every_fault_is_reported_and_nothing_changes(bench: Bench) -> None:
    await bench.apply(manifest())
    before = await bench.plane.endpoints.get("iris")
    published, calls = list(bench.routers.published), list(bench.provider.calls)
    with pytest.raises(InvalidManifest) as refused:
        await bench.plane.endpoints.apply(manifest(versions=[version(minimum=5, maximum=2), version("Bad_Name")]))
    assert len(refused.value.faults) >= 2
    assert (await bench.plane.endpoints.get("iris"), bench.routers.published, bench.provider.calls) == (
        before,
        published,
        calls,
    )


async def test_an_endpoint_that_cannot_run_here_is_refused_before_anything_changes(bench: Bench) -> None:
    bench.provider.faults = [Fault("spec.versions[0].replica.image", "x", "cannot run here")]
    with pytest.raises(InvalidManifest, match="cannot run here"):
        await bench.plane.endpoints.apply(manifest())
    assert await bench.plane.endpoints.views() == [] and bench.provider.calls == []


async def test_a_full_disk_refuses_the_change_and_the_running_state_is_untouched(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.apply(manifest())
    before, published = await bench.plane.endpoints.get("iris"), list(bench.routers.published)

    def full(*_: StoredEndpoint | StateDirectory | str) -> None:
        raise StoreError("cannot write iris.json: No space left on device")

    monkeypatch.setattr(StateDirectory, "save_endpoint", full)
    monkeypatch.setattr(StateDirectory, "delete_endpoint", full)
    keys = bench.plane.endpoints.keys("iris")
    for change in (
        bench.plane.endpoints.apply(manifest(versions=TWO)),
        bench.plane.endpoints.set_traffic("iris", {"blue": 5}, None, None),
        bench.plane.endpoints.regenerate("iris", KeyType.PRIMARY),
        bench.plane.endpoints.delete("iris"),
    ):
        with pytest.raises(StoreError):
            await change
    assert await bench.plane.endpoints.get("iris") == before
    assert bench.plane.endpoints.keys("iris") == keys and bench.routers.published == published


async def test_a_document_that_no_message_can_carry_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidManifest):
        await bench.plane.endpoints.apply(manifest(description="half a character \ud800"))
    assert await bench.plane.endpoints.views() == []


async def test_an_error_of_the_provider_is_reported_and_retried(bench: Bench) -> None:
    bench.provider.refusal = ProviderError("no room for a process")
    view = await bench.apply(manifest())
    assert "no room for a process" in view["status"]["versions"]["blue"]["message"]
    bench.provider.refusal = None
    await bench.clock.advance(5)
    view = await bench.plane.endpoints.get("iris")
    assert view["status"]["ready"] and view["status"]["versions"]["blue"]["message"] == ""


async def test_changes_of_one_endpoint_happen_one_after_the_other(bench: Bench) -> None:
    documents = [manifest(description=str(number)) for number in range(20)]
    await asyncio.gather(*(bench.plane.endpoints.apply(document) for document in documents))
    told = [message.endpoint.description for message in bench.routers.told(UpsertEndpoint)]
    last = (await bench.plane.endpoints.get("iris"))["spec"]["description"]
    assert sorted(told, key=int) == [str(number) for number in range(20)] and told[-1] == last
    after = await bench.again()
    assert (await after.plane.endpoints.get("iris"))["spec"]["description"] == last
    await after.plane.stop()


async def test_changing_the_split_asks_for_no_other_number_of_replicas(bench: Bench) -> None:
    await bench.apply(manifest(versions=TWO))
    ids = set(bench.provider.replicas)
    view = await bench.plane.endpoints.set_traffic("iris", {"green": 30}, None, "green")
    assert [v["share"] for v in view["status"]["versions"].values()] == [0.7, 0.3]
    assert view["status"]["versions"]["green"]["type"] == "Control"
    assert set(bench.provider.replicas) == ids


async def test_a_split_that_breaks_a_rule_changes_nothing(bench: Bench) -> None:
    await bench.apply(manifest(versions=TWO))
    for percentiles, default in (({"green": 101}, None), ({"nobody": 1}, None), ({}, "nobody"), ({"green": -1}, None)):
        with pytest.raises(InvalidManifest):
            await bench.plane.endpoints.set_traffic("iris", percentiles, default, None)
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["green"]["share"] == 0.1


async def test_a_deleted_endpoint_is_unknown_at_once_and_its_replicas_drain(bench: Bench) -> None:
    await bench.apply(manifest())
    await bench.until(lambda: bench.routers.replicas)
    (replica,) = bench.provider.replicas
    await bench.plane.endpoints.delete("iris")
    await bench.clock.advance(0)
    assert bench.routers.told(RemoveEndpoint) == [RemoveEndpoint("iris")]
    assert bench.routers.replicas[replica].state is DRAINING
    with pytest.raises(NoSuchEndpoint):
        await bench.plane.endpoints.get("iris")
    bench.plane.reports.replica_drained(replica)
    await bench.clock.advance(0)
    assert bench.provider.replicas == {} and bench.routers.replicas == {}


async def test_an_endpoint_declared_again_after_its_end_has_new_keys(bench: Bench) -> None:
    await bench.apply(manifest())
    keys = bench.plane.endpoints.keys("iris")
    await bench.plane.endpoints.delete("iris")
    await bench.apply(manifest())
    assert {keys.primary, keys.secondary}.isdisjoint(
        {bench.plane.endpoints.keys("iris").primary, bench.plane.endpoints.keys("iris").secondary}
    )


async def test_a_missing_endpoint_is_not_found(bench: Bench) -> None:
    await bench.apply(manifest())
    for question in (
        bench.plane.endpoints.get("wine"),
        bench.plane.endpoints.delete("wine"),
        bench.plane.endpoints.regenerate("wine", KeyType.PRIMARY),
    ):
        with pytest.raises(NoSuchEndpoint):
            await question
    with pytest.raises(NoSuchVersion):
        await bench.plane.endpoints.logs("iris", "red", 10)
    with pytest.raises(NoSuchVersion):
        bench.plane.endpoints.decisions("iris", "red", 10)


# ---- keys and tokens


async def test_a_regenerated_key_is_published_to_the_routers_with_the_other_unchanged(bench: Bench) -> None:
    await bench.apply(manifest())
    before = bench.plane.endpoints.keys("iris")
    after = await bench.plane.endpoints.regenerate("iris", KeyType.PRIMARY)
    assert after.primary != before.primary and after.secondary == before.secondary
    assert bench.routers.told(SetKeys)[-1].keys == digests("iris", after)


async def test_a_token_needs_an_endpoint_with_token_auth(bench: Bench) -> None:
    await bench.apply(manifest())
    with pytest.raises(ConflictingChange, match="tokenAuthEnabled"):
        bench.plane.endpoints.token("iris")
    await bench.apply(manifest(tokenAuthEnabled=True))
    assert bench.plane.endpoints.token("iris").expires_on == int(bench.clock.wall()) + 13 * 3600


async def test_signing_keys_rotate_by_themselves_and_routers_know_before_it_counts(bench: Bench) -> None:
    await bench.clock.advance(ROTATE_EVERY_S + 60)
    await bench.until(lambda: bench.routers.told(SetTrust))
    trust = bench.routers.told(SetTrust)[-1].trust
    assert len(trust.keys) == 2 and trust.issuer.startswith("scorefront/")


async def test_keys_issuer_and_signing_keys_survive_a_restart(bench: Bench) -> None:
    await bench.apply(manifest())
    keys, trust = bench.plane.endpoints.keys("iris"), bench.plane.snapshot().trust
    after = await bench.again()
    assert (after.plane.endpoints.keys("iris"), after.plane.snapshot().trust) == (keys, trust)
    await after.plane.stop()


async def test_routers_never_get_a_key_or_a_private_half(bench: Bench) -> None:
    await bench.apply(manifest())
    pair = bench.plane.endpoints.keys("iris")
    told = repr(bench.routers.published) + repr(bench.plane.snapshot())
    assert pair.primary not in told and pair.secondary not in told and "PRIVATE" not in told


# ---- restart


async def test_a_restart_asks_for_the_numbers_that_were_wanted(bench: Bench) -> None:
    await bench.apply(manifest(versions=[version(minimum=2), version("green")]))
    bench.plane.reports.usage_reported(usage(busy=2, total=2, waiting=2))
    await bench.clock.advance(0.1)
    assert bench.provider.asked("scale")[-1][:3] == ("scale", BLUE, 3)
    after = await bench.again()
    assert after.provider.asked("apply") == [("apply", "iris", {"blue": 3, "green": 1})]
    assert (await after.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 3
    await after.plane.stop()


async def test_a_restart_publishes_everything_to_the_routers(bench: Bench) -> None:
    await bench.apply(manifest())
    after = await bench.again()
    await after.until(lambda: after.plane.snapshot().replicas)
    snapshot = after.plane.snapshot()
    assert isinstance(after.routers.published[0], ResetAll)
    assert [endpoint.name for endpoint in snapshot.endpoints] == ["iris"]
    assert [keys.endpoint for keys in snapshot.keys] == ["iris"]
    await after.plane.stop()


async def test_replicas_of_an_endpoint_that_was_deleted_before_a_crash_are_stopped(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "state")
    bench.provider.put(Replica("old-1", "gone", "blue", "127.0.0.1", 1, READY))
    await bench.start()
    await bench.clock.advance(5)
    assert ("remove", "gone") in bench.provider.calls
    await bench.plane.stop()


DAMAGES = {
    "cut": (lambda text: text[:40], "is damaged: "),
    "of an odd shape": (lambda text: text.replace('"document": {', '"document": 1, "x": {'), r"at `\$.document`"),
    "not valid any more": (
        lambda text: text.replace('"kind": "ScoringEndpoint"', '"kind": "Teapot"'),
        r"kind: must be ScoringEndpoint \(got 'Teapot'\)",
    ),
    "another's": (
        lambda text: text.replace('"name": "iris"', '"name": "wine"'),
        r"metadata.name: must be 'iris', as the file \(got 'wine'\)",
    ),
}


@pytest.fixture(params=list(DAMAGES.values()), ids=list(DAMAGES))
async def damaged(bench: Bench, request: Any) -> AsyncIterator[tuple[Bench, Path, KeyPair, str]]:
    """A restart with a damaged file: (bench, file, contents, log message)."""
    await bench.apply(manifest(versions=[version(minimum=2)]))
    await bench.apply(manifest("roses"))
    bench.plane.reports.usage_reported(usage(busy=2, total=2, waiting=2))
    await bench.clock.advance(0.1)
    await bench.plane.stop()
    spoil, told = request.param
    path = bench.directory / "endpoints" / "iris.json"
    keys = bench.plane.endpoints.keys("iris")
    path.with_name("as it was").write_text(path.read_text())
    path.write_text(spoil(path.read_text()))
    after = Bench(bench.directory)
    after.provider.replicas = dict(bench.provider.replicas)
    await after.start()
    yield after, path, keys, told
    await after.plane.stop()


async def test_a_damaged_endpoint_is_skipped_and_reported_and_everything_else_starts(
    damaged: tuple[Bench, Path, KeyPair, str], caplog: pytest.LogCaptureFixture
) -> None:
    bench, path, _, told = damaged
    content = path.read_text()
    assert [view["metadata"]["name"] for view in await bench.plane.endpoints.views()] == ["roses"]
    assert [endpoint.name for endpoint in bench.plane.snapshot().endpoints] == ["roses"]
    assert bench.plane.endpoints.shortfalls() == []
    logged = "\n".join(record.getMessage() for record in caplog.get_records("setup"))
    assert re.search(f"'iris' is skipped: .*endpoints/iris.json.*{told}", logged)
    assert re.search(told, bench.plane.endpoints.skipped()["iris"].why)
    for question in (bench.plane.endpoints.get("iris"), bench.plane.endpoints.regenerate("iris", KeyType.PRIMARY)):
        with pytest.raises(NoSuchEndpoint, match=told):
            await question
    assert path.read_text() == content


async def test_replicas_of_a_damaged_endpoint_are_left_alone(damaged: tuple[Bench, Path, KeyPair, str]) -> None:
    bench, *_ = damaged
    await bench.clock.advance(20)
    assert bench.provider.asked("remove") == []
    assert len(bench.provider.of(BLUE, READY)) == 3


async def test_a_damaged_endpoint_that_is_declared_anew_is_served_and_its_file_is_kept(
    damaged: tuple[Bench, Path, KeyPair, str], caplog: pytest.LogCaptureFixture
) -> None:
    bench, path, keys, told = damaged
    content = path.read_text()
    await bench.apply(manifest())
    assert bench.plane.endpoints.skipped() == {}
    assert path.with_name("iris.json.damaged-1").read_text() == content
    assert "damaged file renamed to" in caplog.text
    if "must be" in told:  # the document alone was no good
        assert bench.plane.endpoints.keys("iris") == keys
    assert bench.provider.asked("apply")[-1] == ("apply", "iris", {"blue": 3})  # the number that was wanted
    after = await bench.again()
    assert after.plane.endpoints.skipped() == {} and len(await after.plane.endpoints.views()) == 2
    await after.plane.stop()


async def test_a_damaged_endpoint_that_is_mended_is_served_after_a_restart(
    damaged: tuple[Bench, Path, KeyPair, str],
) -> None:
    bench, path, keys, _ = damaged
    path.write_text(path.with_name("as it was").read_text())
    after = await bench.again()
    assert after.plane.endpoints.keys("iris") == keys and after.plane.endpoints.skipped() == {}
    assert (await after.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 3
    await after.plane.stop()


async def test_a_damaged_endpoint_that_is_deleted_is_gone_and_its_file_is_kept(
    damaged: tuple[Bench, Path, KeyPair, str],
) -> None:
    bench, path, *_ = damaged
    content = path.read_text()
    await bench.plane.endpoints.delete("iris")
    assert bench.provider.asked("remove") == [("remove", "iris")]
    assert path.with_name("iris.json.damaged-1").read_text() == content and not path.exists()
    with pytest.raises(NoSuchEndpoint, match="there is no endpoint 'iris'"):
        await bench.plane.endpoints.get("iris")
    after = await bench.again()
    assert after.plane.endpoints.skipped() == {}
    await after.plane.stop()


async def test_an_endpoint_stays_skipped_when_its_file_cannot_be_kept(
    damaged: tuple[Bench, Path, KeyPair, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, path, *_ = damaged
    content = path.read_text()

    def refused(*_: Path) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("cluster.atomic_files.set_aside", refused)
    for change in (bench.plane.endpoints.apply(manifest()), bench.plane.endpoints.delete("iris")):
        with pytest.raises(StoreError, match=r"cannot rename .*iris\.json: Read-only"):
            await change
    assert bench.plane.endpoints.skipped().keys() == {"iris"} and path.read_text() == content


async def test_damaged_signing_keys_cost_the_tokens_and_nothing_else(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    await bench.apply(manifest())
    before = bench.plane.snapshot()
    await bench.plane.stop()
    (bench.directory / "signing.json").write_text("{")
    after = await Bench(bench.directory).start()
    assert after.plane.snapshot().keys == before.keys
    assert after.plane.snapshot().trust.issuer != before.trust.issuer
    assert "signing.json.damaged-1, and earlier tokens are invalid" in caplog.text
    await after.plane.stop()


async def test_a_second_control_plane_on_the_same_state_is_refused(bench: Bench) -> None:
    with pytest.raises(StoreError, match="in use by another scorefront"):
        await Bench(bench.directory).start()


async def test_a_lost_watch_is_taken_up_again(bench: Bench) -> None:
    await bench.apply(manifest())
    await bench.until(lambda: bench.routers.replicas)
    bench.provider.break_watch()
    await bench.clock.advance(0)
    bench.provider.put(Replica("late", "iris", "blue", "127.0.0.1", 1, READY))
    await bench.clock.advance(1)
    assert "late" in bench.routers.replicas


# ---- readiness, status, logs, measurements


async def test_an_endpoint_is_ready_once_every_version_has_its_minimum(bench: Bench) -> None:
    bench.provider.starts_ready = False
    await bench.apply(manifest(versions=[version(minimum=2)]))
    first, second = bench.provider.of(BLUE)
    bench.provider.become(first, READY)
    bench.provider.become(second, ReplicaState.FAILED, "exit status 1")
    await bench.clock.advance(0)
    assert [str(each) for each in bench.plane.endpoints.shortfalls()] == ["iris/blue: 1 of 2 ready: exit status 1"]
    bench.provider.become(second, READY)
    await bench.clock.advance(0)
    assert bench.plane.endpoints.shortfalls() == []


async def test_a_version_that_is_not_ready_says_why_with_its_last_log_lines(bench: Bench) -> None:
    bench.provider.starts_ready = False
    await bench.apply(manifest())
    (replica,) = bench.provider.of(BLUE)
    bench.provider.logged[BLUE] = {replica: ["Traceback", "ModuleNotFoundError: sklearn"]}
    bench.provider.become(replica, ReplicaState.FAILED, "exit status 1")
    await bench.clock.advance(0)
    message = (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["message"]
    assert message == "exit status 1\nTraceback\nModuleNotFoundError: sklearn"


async def test_a_version_says_why_a_replica_fails_though_enough_are_ready(bench: Bench) -> None:
    await bench.apply(manifest(versions=[version(autoScaler={"minReplicas": 1, "maxReplicas": 4})]))
    await bench.provider.scale(BLUE, 2)
    await bench.clock.advance(0)
    bench.provider.become(bench.provider.of(BLUE)[1], ReplicaState.FAILED, "exit status 1")
    await bench.clock.advance(0)
    status = (await bench.plane.endpoints.get("iris"))["status"]
    assert status["ready"] and status["versions"]["blue"]["message"] == "exit status 1"
    bench.provider.become(bench.provider.of(BLUE)[1], READY)
    await bench.clock.advance(0)
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["message"] == ""


async def test_a_version_that_starts_says_so_with_its_last_log_lines(bench: Bench) -> None:
    bench.provider.starts_ready = False
    await bench.apply(manifest())
    assert (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["message"] == "starting"
    bench.provider.logged[BLUE] = {"iris-blue-1": ["loading the model"]}
    message = (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["message"]
    assert message == "starting; its last log lines:\nloading the model"


async def test_the_view_shows_slots_and_utilization(bench: Bench) -> None:
    await bench.apply(manifest(versions=[version(minimum=2)]))
    await bench.until(lambda: len(bench.routers.replicas) == 2)
    bench.plane.reports.usage_reported(usage(busy=1, total=2, waiting=0, starved=False))
    status = (await bench.plane.endpoints.get("iris"))["status"]["versions"]["blue"]
    assert {key: status[key] for key in ("busy", "total", "waiting", "utilization", "share", "isDefault")} == {
        "busy": 1,
        "total": 2,
        "waiting": 0,
        "utilization": 0.5,
        "share": 1.0,
        "isDefault": True,
    }


async def test_the_view_can_be_declared_again(bench: Bench) -> None:
    view = await bench.apply(manifest(versions=TWO))
    again, outcome = await bench.plane.endpoints.apply(
        {key: view[key] for key in ("apiVersion", "kind", "metadata", "spec")}
    )
    assert outcome == "unchanged" and again["spec"] == view["spec"]


async def test_logs_of_all_replicas_are_one_stream(bench: Bench) -> None:
    await bench.apply(manifest(versions=TWO))
    bench.provider.logged = {BLUE: {"b1": ["one", "two"]}, GREEN: {"g1": ["three"]}}
    assert [tuple(line) for line in await bench.plane.endpoints.logs("iris", None, 1)] == [
        ("blue", "b1", "two"),
        ("green", "g1", "three"),
    ]
    follow = bench.plane.endpoints.follow_logs("iris", "green")
    bench.provider.log_feed.put_nowait(("g1", "four"))
    assert tuple(await anext(follow)) == ("green", "g1", "four")
    await follow.aclose()


async def test_logs_of_several_replicas_are_in_the_order_of_time(bench: Bench) -> None:
    await bench.apply(manifest(versions=TWO))
    blue: dict[str, list[str | TimedLine]] = {
        "b1": [TimedLine(1.0, "one"), TimedLine(4.0, "four")],
        "b2": [TimedLine(3.0, "three"), TimedLine(2.5, "set back")],
    }
    bench.provider.logged = {BLUE: blue, GREEN: {"g1": [TimedLine(2.0, "two")]}}
    lines = [line.line for line in await bench.plane.endpoints.logs("iris", None, 9)]
    assert lines == ["one", "two", "three", "set back", "four"]


async def test_metrics_cover_every_declared_version(bench: Bench) -> None:
    await bench.apply(manifest(versions=TWO))
    await bench.until(lambda: len(bench.routers.replicas) == 2)
    measured = bench.plane.endpoints.metrics.scaling()
    assert measured.desired == {BLUE: 1, GREEN: 1}
    assert measured.replicas[BLUE][READY] == 1


async def test_static_replicas_are_declared_but_never_scaled(bench: Bench) -> None:
    static = version(replica={"static": ["127.0.0.1:1", "127.0.0.1:2"]})
    view = await bench.apply(manifest(versions=[static]))
    bench.plane.reports.usage_reported(usage(busy=2, total=2, waiting=50))
    await bench.clock.advance(3)
    assert view["status"]["versions"]["blue"]["desired"] == 2
    assert bench.provider.asked("scale") == []


async def test_a_control_plane_that_dies_logs_the_reason(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> AsyncIterator[None]:
        raise RuntimeError("watch is broken")
        yield

    monkeypatch.setattr(bench.provider, "watch", broken)
    bench.provider.break_watch()
    await bench.clock.advance(1)
    with pytest.raises(ExceptionGroup):
        await bench.plane.wait()


def usage(
    busy: int,
    total: int,
    waiting: int,
    starved: bool = True,
    at_s: float = 100.0,
    integral: float = 0.0,
    busy_by_replica: dict[str, int] | None = None,
    worker: str = "w1",
) -> UsageReport:
    row = VersionUsage("iris", "blue", busy, total, waiting, integral, busy_by_replica or {})
    return UsageReport(worker, at_s, (row,), (BLUE,) if starved else ())


async def test_a_declaration_with_edited_files_is_a_change(bench: Bench) -> None:
    await bench.apply(manifest())
    _, outcome = await bench.plane.endpoints.apply(manifest())
    assert outcome is ApplyOutcome.UNCHANGED
    bench.provider.edited = {"blue"}
    _, outcome = await bench.plane.endpoints.apply(manifest())
    assert outcome is ApplyOutcome.CHANGED
    # The files are read before they are applied, and by a declaration only.
    await bench.plane.endpoints.set_traffic("iris", {"blue": 5}, None, None)
    assert [call[0] for call in bench.provider.calls] == [*["refresh", "apply"] * 3, "apply"]


async def test_a_restart_names_its_versions_and_is_refused_where_nothing_can_be_restarted(bench: Bench) -> None:
    static = version("fixed", replica={"static": ["127.0.0.1:9400"]})
    await bench.apply(manifest(versions=[version("blue"), version("green"), static]))
    await bench.plane.endpoints.restart("iris", None)
    await bench.plane.endpoints.restart("iris", "green")
    assert bench.provider.asked("restart") == [("restart", "iris", ("blue", "green")), ("restart", "iris", ("green",))]
    with pytest.raises(ConflictingChange, match="static: restart them where they run"):
        await bench.plane.endpoints.restart("iris", "fixed")
    with pytest.raises(NoSuchVersion):
        await bench.plane.endpoints.restart("iris", "red")
    bench.provider.refusal = ProviderError("no workload yet")
    with pytest.raises(ConflictingChange, match="no workload yet"):
        await bench.plane.endpoints.restart("iris", "blue")
