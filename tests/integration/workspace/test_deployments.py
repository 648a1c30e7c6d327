"""Deployments with a fake provider: what is declared when, and what is left of a failure."""

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controlplane.control_errors import ConflictingChange, NoSuchEndpoint, StoreError
from controlplane.endpoint_service import EndpointService
from serving.endpoint import VersionKey
from serving.faults import Fault, InvalidManifest
from serving.replica import ReplicaState
from tests.fakes.deployments import SCRIPT, DeploymentBench, FakeBlobs, FakeModel, versions
from tests.fakes.plane import manifest
from workspace.builders.interface import BuildError, BuiltEnvironment, Log
from workspace.deployments.deployment_steps import READY_LIMIT_S
from workspace.deployments.operation_journal import NoSuchOperation
from workspace.deployments.records import OperationState, OperationStep, SourceFile
from workspace.environments.spec import EnvironmentSpec

KEY = VersionKey("iris", "blue")


def splits(bench: DeploymentBench) -> dict[str, tuple[float, bool]]:
    return {each["name"]: (each["trafficPercentile"], each["isDefault"]) for each in versions(bench.document())}


def fail_newest(bench: DeploymentBench, key: VersionKey, reason: str = "exited with code 3 before it was ready") -> str:
    replica = bench.bench.provider.of(key)[-1]
    bench.bench.provider.logged[key] = {replica: ["Traceback", "ModuleNotFoundError: No module named 'nowhere'"]}
    bench.bench.provider.become(replica, ReplicaState.FAILED, f"{reason}; its last lines:\nTraceback")
    return replica


# ---- success


async def test_a_deployment_declares_the_endpoint_with_its_own_copy_of_the_source(bench: DeploymentBench) -> None:
    operation = await bench.deployed(bench.request())
    assert operation.state is OperationState.SUCCEEDED
    assert [each.step for each in operation.steps] == list(OperationStep)
    (version,) = versions(bench.document())
    source = bench.directory / "deployments" / operation.id / "source"
    assert version["replica"]["sourceDirectory"] == str(source)
    assert version["replica"]["entryScript"] == str(source / "score.py")
    assert (source / "score.py").read_bytes() == SCRIPT


async def test_each_step_is_in_the_log_with_its_result(bench: DeploymentBench) -> None:
    operation = await bench.deployed(bench.request())
    text = "\n".join(await bench.lines(operation.id))
    for step in OperationStep:
        assert f"{step.value} …" in text
    assert f"snapshot: 1 file, {len(SCRIPT)} bytes" in text
    assert "environment: the Python of scorefront" in text
    assert "Create Succeeded after" in text


async def test_given_keys_are_set_and_not_kept(bench: DeploymentBench) -> None:
    keys = ("p" * 20, "s" * 20)
    operation = await bench.deployed(bench.request(keys=keys))
    pair = bench.bench.plane.endpoints.keys("iris")
    assert (pair.primary, pair.secondary) == keys
    for path in (bench.directory / "operations").iterdir():
        assert b"pppp" not in path.read_bytes()
    assert operation.state is OperationState.SUCCEEDED


async def test_a_version_is_added_without_traffic_until_it_is_ready(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.added("green", isDefault=True, trafficPercentile=40))
    await bench.until(lambda: bench.bench.provider.of(VersionKey("iris", "green")))
    assert splits(bench) == {"blue": (0, True), "green": (0, False)}
    (replica,) = bench.bench.provider.of(VersionKey("iris", "green"))
    bench.bench.provider.become(replica, ReplicaState.READY)
    assert (await bench.ended(running.id)).state is OperationState.SUCCEEDED
    assert splits(bench) == {"blue": (0, False), "green": (40, True)}


async def test_an_update_waits_for_the_changed_versions(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    bench.bench.provider.starts_ready = False
    document = bench.document()
    document["spec"]["versions"][0]["autoScaler"]["minReplicas"] = 2
    running = await bench.service.update("iris", document)
    await bench.until(lambda: len(bench.bench.provider.of(KEY)) == 2)
    assert not bench.service.get(running.id).is_ended
    bench.bench.provider.become(bench.bench.provider.of(KEY)[-1], ReplicaState.READY)
    ended = await bench.ended(running.id)
    assert (ended.state, [each.step.value for each in ended.steps]) == (
        OperationState.SUCCEEDED,
        ["validate", "start", "ready"],
    )


async def test_models_are_placed_as_in_azure(bench: DeploymentBench) -> None:
    files = (bench.blobs.put("model.pkl", b"1"), bench.blobs.put("more/data.bin", b"2"))
    bench.models.models[("iris", 3)] = FakeModel(files)
    bench.models.models[("other", 1)] = FakeModel(files[:1])
    one = await bench.deployed(bench.request(models=(("iris", 3),)))
    top = bench.directory / "deployments" / one.id / "models" / "azureml-models"
    assert versions(bench.document())[0]["replica"]["modelDir"] == str(top / "iris" / "3")
    assert (top / "iris" / "3" / "more" / "data.bin").read_bytes() == b"2"
    several = await bench.deployed(bench.request(models=(("iris", 3), ("other", 1)), replaces=True))
    top = bench.directory / "deployments" / several.id / "models" / "azureml-models"
    assert versions(bench.document())[0]["replica"]["modelDir"] == str(top)
    assert (top / "other" / "1" / "model.pkl").read_bytes() == b"1"


async def test_a_thousand_models_are_hard_links_and_one_more_is_refused(bench: DeploymentBench) -> None:
    bench.blobs.folder = bench.directory / "blobs"
    file = bench.blobs.put("model.bin", b"x" * 1000)
    names = [("many", number) for number in range(1, 1002)]
    bench.models.models = {name: FakeModel((file,)) for name in names}
    operation = await bench.deployed(bench.request(models=tuple(names[:1000])))
    assert operation.state is OperationState.SUCCEEDED
    assert (bench.blobs.folder / file.sha256).stat().st_nlink == 1001
    with pytest.raises(InvalidManifest, match="models: must have at most 1000 models"):
        await bench.service.start(bench.request("other", models=tuple(names)))


async def test_the_origin_of_a_version_is_known(bench: DeploymentBench) -> None:
    bench.models.models[("iris", 3)] = FakeModel((bench.blobs.put("m", b"1"),))
    operation = await bench.deployed(bench.request(models=(("iris", 3),)))
    (origin,) = bench.service.provenance("iris")
    assert (origin.operation, origin.models, origin.entry_script) == (operation.id, (("iris", 3),), "score.py")
    assert bench.service.users_of_model("iris", 3) == ("iris/blue",)
    assert bench.service.users_of_model("iris", 2) == ()


# ---- refusals


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("../out.py", "relative path"),
        ("/etc/passwd", "relative path"),
        ("a/../../b", "relative path"),
        ("", "relative"),
    ],
)
async def test_a_path_that_leaves_the_source_is_refused(bench: DeploymentBench, path: str, rule: str) -> None:
    evil = SourceFile(path, "0" * 64, 1)
    with pytest.raises(InvalidManifest, match=r"source\[1\].path: must"):
        await bench.service.start(bench.request(source=(bench.blobs.put("score.py", SCRIPT), evil)))
    assert bench.service.list() == ()


async def test_every_fault_of_a_request_is_named_at_once(bench: DeploymentBench) -> None:
    entry = {"name": "blue", "replica": {"entryScript": "absent.py", "sourceDirectory": "/etc"}}
    with pytest.raises(InvalidManifest) as refused:
        await bench.service.start(bench.request(document=manifest("iris", [entry]), keys=("short", None)))
    assert [fault.path for fault in refused.value.faults] == [
        "spec.versions[0].replica.sourceDirectory",
        "spec.versions[0].replica.entryScript",
        "keys.primaryKey",
    ]


async def test_an_existing_version_is_replaced_only_on_demand(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    with pytest.raises(ConflictingChange, match="version 'blue' of endpoint 'iris' exists"):
        await bench.service.start(bench.request())
    assert (await bench.deployed(bench.request(replaces=True))).state is OperationState.SUCCEEDED


async def test_one_operation_of_an_endpoint_at_a_time(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    with pytest.raises(ConflictingChange, match=f"operation '{running.id}' of endpoint 'iris' is in progress"):
        await bench.service.start(bench.request(replaces=True))


async def test_unknown_operations_and_endpoints_are_named(bench: DeploymentBench) -> None:
    with pytest.raises(NoSuchOperation, match="there is no operation 'nowhere'"):
        bench.service.get("nowhere")
    with pytest.raises(NoSuchEndpoint):
        await bench.service.update("nowhere", manifest("nowhere"))
    with pytest.raises(NoSuchEndpoint):
        await bench.service.delete("nowhere")


# ---- failures


async def test_a_replica_that_ends_fails_the_deployment_at_once_with_its_log(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    fail_newest(bench, KEY)
    ended = await bench.ended(running.id)
    assert ended.state is OperationState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.step) == ("ReplicaFailed", OperationStep.READY)
    assert ended.error.message == (
        "the replica exited with code 3 before it was ready: ModuleNotFoundError: No module named 'nowhere'"
    )
    assert "  | ModuleNotFoundError: No module named 'nowhere'" in await bench.lines(running.id)


async def test_a_new_endpoint_that_fails_is_shown_and_holds_no_process(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    fail_newest(bench, KEY)
    await bench.ended(running.id)
    assert bench.bench.plane.endpoints.names() == []
    await bench.until(lambda: not bench.bench.provider.of(KEY))
    (shown,) = bench.service.failed_endpoints()
    assert (shown.name, shown.operation.id) == ("iris", running.id)
    await bench.until(lambda: not (bench.directory / "deployments" / running.id).exists())
    bench = await bench.again()
    assert [each.name for each in bench.service.failed_endpoints()] == ["iris"]
    await bench.service.delete("iris")
    assert bench.service.failed_endpoints() == ()
    bench = await bench.again()
    assert bench.service.failed_endpoints() == ()
    await bench.stop()


async def test_a_failed_version_leaves_the_endpoint_as_it_was(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    before = bench.document()
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.added("green", trafficPercentile=40))
    await bench.until(lambda: bench.bench.provider.of(VersionKey("iris", "green")))
    fail_newest(bench, VersionKey("iris", "green"))
    assert (await bench.ended(running.id)).state is OperationState.FAILED
    assert bench.document() == before
    assert bench.bench.provider.of(KEY, ReplicaState.READY)
    assert bench.service.failed_endpoints() == ()


async def test_a_replaced_version_that_fails_goes_back(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    before = bench.document()
    bench.template = lambda key: "new"
    running = await bench.service.start(bench.request(script=b"import nowhere", replaces=True))
    await bench.until(lambda: bench.document() != before)
    await bench.reaches(running.id, "ready")
    await bench.service.cancel(running.id)
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
    assert bench.document() == before


async def test_without_readiness_the_operation_times_out(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    await bench.bench.clock.advance(READY_LIMIT_S + 1)
    ended = await bench.ended(running.id)
    assert (ended.state, ended.error and ended.error.code) == (OperationState.TIMED_OUT, "DeploymentTimedOut")
    assert bench.bench.plane.endpoints.names() == []


async def test_a_cancelled_operation_is_taken_back_and_cannot_be_cancelled_again(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    await bench.service.cancel(running.id)
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
    assert bench.bench.plane.endpoints.names() == []
    with pytest.raises(ConflictingChange, match="cannot be cancelled"):
        await bench.service.cancel(running.id)


async def test_deleting_an_endpoint_cancels_its_operation(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    deleting = asyncio.create_task(bench.service.delete("iris"))
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
    assert (await deleting).state is OperationState.SUCCEEDED
    assert bench.service.failed_endpoints() == ()


async def test_an_endpoint_deleted_by_others_fails_the_operation(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    await bench.bench.plane.endpoints.delete("iris")
    ended = await bench.ended(running.id)
    assert ended.error is not None
    assert (ended.error.code, ended.error.message) == ("Superseded", "endpoint 'iris' was deleted meanwhile")


async def test_a_version_declared_anew_by_others_is_left_to_them(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    theirs = manifest("iris", [{"name": "blue", "replica": {"command": ["/bin/model"]}}])
    await bench.bench.plane.endpoints.apply(theirs)
    ended = await bench.ended(running.id)
    assert ended.error is not None
    assert ended.error.code == "Superseded"
    assert versions(bench.document())[0]["replica"]["command"] == ["/bin/model"]


async def test_a_full_disk_fails_the_step_that_met_it(bench: DeploymentBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: FakeBlobs, sha256: str) -> None:
        raise OSError(28, "No space left on device", "/state/source")

    monkeypatch.setattr(FakeBlobs, "open_blob", full)
    ended = await bench.deployed(bench.request())
    assert ended.error is not None
    assert (ended.error.code, ended.error.step) == ("NoSpace", OperationStep.SNAPSHOT)
    assert ended.error.message == "No space left on device: /state/source"


async def test_a_damaged_blob_fails_the_snapshot(bench: DeploymentBench) -> None:
    request = bench.request()
    bench.blobs.content[request.source[0].sha256] = b"other"
    ended = await bench.deployed(request)
    assert ended.error is not None
    assert ended.error.step is OperationStep.SNAPSHOT
    assert "score.py" in ended.error.message


# ---- restarts


@pytest.mark.parametrize("step", ["start", "ready"])
async def test_a_stopped_operation_goes_on_at_the_next_start(bench: DeploymentBench, step: str) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.reaches(running.id, step)
    after = await bench.again()
    await after.until(lambda: after.bench.provider.of(KEY))
    after.bench.provider.become(after.bench.provider.of(KEY)[-1], ReplicaState.READY)
    assert (await after.ended(running.id)).state is OperationState.SUCCEEDED
    assert any("again, after a restart" in line for line in await after.lines(running.id))
    await after.stop()


async def test_the_way_back_goes_on_at_the_next_start(bench: DeploymentBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    with monkeypatch.context() as broken:

        async def refuse(self: object, name: str) -> None:
            raise StoreError("cannot remove endpoints/iris.json: Input/output error")

        broken.setattr(EndpointService, "delete", refuse)
        await bench.service.cancel(running.id)
        await bench.bench.clock.advance(20)
        assert bench.service.get(running.id).undoing is OperationState.CANCELLED
        after = await bench.again()
    assert (await after.ended(running.id)).state is OperationState.CANCELLED
    assert after.bench.plane.endpoints.names() == []
    await after.stop()


async def test_unused_folders_are_removed_and_used_ones_stay(bench: DeploymentBench) -> None:
    first = await bench.deployed(bench.request())
    second = await bench.deployed(bench.request(replaces=True))
    folder = bench.directory / "deployments"
    await bench.until(lambda: not (folder / first.id).exists())
    assert (folder / second.id / "source" / "score.py").exists()


async def test_the_folder_of_a_version_stays_while_it_is_replaced(bench: DeploymentBench) -> None:
    first = await bench.deployed(bench.request())
    bench.template = lambda key: "new"
    running = await bench.service.start(bench.request(replaces=True))
    await bench.reaches(running.id, "ready")
    await bench.bench.provider.drained(bench.bench.provider.of(KEY)[0])
    bench.template = lambda key: ""
    bench.bench.provider.vanish(bench.bench.provider.of(KEY)[0])
    await bench.bench.clock.advance(30)
    await bench.until(lambda: (bench.directory / "deployments" / first.id / "source").exists())
    await bench.service.cancel(running.id)
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
    assert first.id in str(bench.document())


async def test_a_former_version_without_its_files_does_not_hold_up_the_end(bench: DeploymentBench) -> None:
    await bench.deployed(bench.request())
    bench.template = lambda key: "new"
    running = await bench.service.start(bench.request(replaces=True))
    await bench.reaches(running.id, "ready")
    bench.bench.provider.faults = [Fault("spec.versions[0].replica.entryScript", "x", "must be a file that exists")]
    await bench.service.cancel(running.id)
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
    assert any("cannot be declared again" in line for line in await bench.lines(running.id))


async def test_a_follower_gets_every_line_until_the_end(bench: DeploymentBench) -> None:
    bench.bench.provider.starts_ready = False
    running = await bench.service.start(bench.request())

    async def read() -> list[str]:
        return [line.text async for line in bench.service.follow_log(running.id)]

    following = asyncio.create_task(read())
    await bench.until(lambda: bench.bench.provider.of(KEY))
    bench.bench.provider.become(bench.bench.provider.of(KEY)[-1], ReplicaState.READY)
    await bench.ended(running.id)
    assert await following == await bench.lines(running.id)


# ---- environments


SPEC = EnvironmentSpec("myenv", "1", pip=("nowhere==1.0",), variables={"A": "1"})


@dataclass
class FakeBuilder:
    """Builds in no time, or fails, or never ends."""

    failure: BuildError | None = None
    hangs: bool = False
    interpreter: Path = Path(sys.executable)
    built: list[str] = field(default_factory=list)
    begun: int = 0

    async def build(self, spec: EnvironmentSpec, log: Log) -> BuiltEnvironment:
        self.begun += 1
        log("nowhere 1.0 from PyPI")
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.failure is not None:
            raise self.failure
        found = spec.key in self.built
        self.built.append(spec.key)
        return BuiltEnvironment(spec.key, self.interpreter, found)


@pytest.fixture
async def building(tmp_path: Path) -> AsyncIterator[tuple[DeploymentBench, FakeBuilder]]:
    bench, builder = DeploymentBench(tmp_path / "state"), FakeBuilder()
    bench.builder = builder
    await bench.start()
    yield bench, builder
    await bench.stop()


async def test_equal_environments_are_built_once(building: tuple[DeploymentBench, FakeBuilder], tmp_path: Path) -> None:
    bench, builder = building
    builder.interpreter = tmp_path / "python"
    builder.interpreter.touch()
    first = await bench.deployed(bench.request(environment=SPEC))
    second = await bench.deployed(bench.request("rose", environment=SPEC))
    assert (first.state, second.state) == (OperationState.SUCCEEDED, OperationState.SUCCEEDED)
    assert "nowhere 1.0 from PyPI" in await bench.lines(first.id)
    assert any(f"environment: {SPEC.key[:12]} built" in line for line in await bench.lines(first.id))
    assert any(f"environment: {SPEC.key[:12]} found" in line for line in await bench.lines(second.id))
    (replica,) = [each["replica"] for each in versions(bench.document())]
    assert replica["environment"] == str(builder.interpreter)
    (origin,) = bench.service.provenance("iris")
    assert (origin.environment_key, origin.environment_name, origin.environment_version) == (SPEC.key, "myenv", "1")
    assert bench.service.environments_in_use() == {SPEC.key}


async def test_a_failed_build_fails_the_operation_with_package_and_reason(
    building: tuple[DeploymentBench, FakeBuilder],
) -> None:
    bench, builder = building
    builder.failure = BuildError("nowhere", "no such package on PyPI")
    ended = await bench.deployed(bench.request(environment=SPEC))
    assert ended.error is not None
    assert (ended.error.code, ended.error.step) == ("BuildFailed", OperationStep.ENVIRONMENT)
    assert ended.error.message == "nowhere: no such package on PyPI"
    assert bench.bench.plane.endpoints.names() == []


async def test_a_stopped_build_is_begun_again_with_its_definition(
    building: tuple[DeploymentBench, FakeBuilder],
) -> None:
    bench, builder = building
    builder.hangs = True
    running = await bench.service.start(bench.request(environment=SPEC))
    # the step is recorded before the builder is called
    await bench.until(lambda: builder.begun)
    builder.hangs = False
    after = await bench.again()
    assert (await after.ended(running.id)).state is OperationState.SUCCEEDED
    assert builder.built == [SPEC.key]
    await after.stop()


async def test_an_environment_removed_before_its_version_is_declared_is_built_again(
    building: tuple[DeploymentBench, FakeBuilder], tmp_path: Path
) -> None:
    bench, builder = building
    builder.interpreter = tmp_path / "absent"
    ended = await bench.deployed(bench.request(environment=SPEC))
    assert ended.state is OperationState.SUCCEEDED
    assert builder.built == [SPEC.key, SPEC.key]


async def test_a_build_can_be_cancelled(building: tuple[DeploymentBench, FakeBuilder]) -> None:
    bench, builder = building
    builder.hangs = True
    running = await bench.service.start(bench.request(environment=SPEC))
    # the step is recorded before the builder is called
    await bench.until(lambda: builder.begun)
    await bench.service.cancel(running.id)
    assert (await bench.ended(running.id)).state is OperationState.CANCELLED
