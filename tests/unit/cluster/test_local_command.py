"""From a declared version to argv, environment and directory; and the changes that need a new process."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.local.check import check
from cluster.local.command import Host, launch, template
from cluster.local.replica_environments import InterpretersOnly
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Endpoint,
    LivenessProbe,
    ReplicaKind,
    ReplicaSource,
    Resources,
    Version,
    VersionType,
    WorkloadRef,
)

HOST = Host(
    python="/venv/bin/python3.11",
    environ={"PATH": "/bin", "HOME": "/home/ada", "SCOREFRONT_TOKEN": "s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret"},
    run="run-1",
    server_settings="/settings.py",
)
COMMAND = ReplicaSource(
    ReplicaKind.COMMAND,
    command=("python3", "server.py", "--port={port}"),
    source_directory="/src",
    env={"URL": "http://localhost:{port}/{x}"},
)
ENTRY = ReplicaSource(ReplicaKind.ENTRY_SCRIPT, entry_script="/src/app/score.py", model_dir="/models")


def version(source: ReplicaSource = COMMAND) -> Version:
    return Version("blue", 1.0, True, VersionType.CONTROL, source, AutoscalePolicy())


def test_a_command_gets_its_port_our_python_and_its_directory() -> None:
    found = launch(version(), "iris", "iris-blue-1", 4000, HOST)
    assert found.argv == ("/venv/bin/python3.11", "server.py", "--port=4000")
    assert found.cwd == "/src"
    assert found.env["PORT"] == "4000" and found.env["URL"] == "http://localhost:4000/{x}"
    assert found.env["PATH"] == "/venv/bin:/bin"


def test_a_program_of_another_name_is_left_as_it_is() -> None:
    source = replace(COMMAND, command=("./serve", "{port}:{port}"))
    assert launch(version(source), "iris", "x", 4000, HOST).argv == ("./serve", "4000:4000")


def test_no_secret_of_ours_reaches_a_replica() -> None:
    for source in (COMMAND, ENTRY):
        assert "s3cret" not in launch(version(source), "iris", "x", 4000, HOST).env.values()


def test_a_replica_has_its_identity_for_any_environment_of_the_user() -> None:
    source = replace(COMMAND, env={"SCOREFRONT_REPLICA": "me", "SCOREFRONT_RUN": "", "HOME": "/elsewhere"})
    env = launch(version(source), "iris", "iris-blue-1", 4000, HOST).env
    assert env["SCOREFRONT_ENDPOINT"] == "iris" and env["SCOREFRONT_VERSION"] == "blue"
    assert env["SCOREFRONT_REPLICA"] == "iris-blue-1" and env["SCOREFRONT_RUN"] == "run-1"
    assert env["HOME"] == "/elsewhere"


def test_an_entry_script_is_hosted_on_loopback_with_a_worker_per_slot_and_without_telemetry() -> None:
    found = launch(replace(version(ENTRY), slots_per_replica=3), "iris", "x", 4000, HOST)
    argv = " ".join(found.argv)
    assert "--bind 127.0.0.1:4000" in argv and "--workers 3" in argv and "0.0.0.0" not in argv
    assert found.cwd == "/src/app" == found.env["AML_APP_ROOT"]
    assert found.env["AZUREML_ENTRY_SCRIPT"] == "/src/app/score.py" and found.env["AZUREML_MODEL_DIR"] == "/models"
    assert found.env["AML_APP_INSIGHTS_ENABLED"] == "false"


def test_the_inference_server_ends_a_request_a_little_after_the_router_unless_the_user_says_when() -> None:
    short = replace(version(ENTRY), scoring_timeout_s=2.0)
    assert launch(short, "iris", "x", 4000, HOST).env["SCORING_TIMEOUT_MS"] == "2200"
    own = replace(short, replica=replace(ENTRY, env={"SCORING_TIMEOUT_MS": "900"}))
    assert launch(own, "iris", "x", 4000, HOST).env["SCORING_TIMEOUT_MS"] == "900"
    assert "SCORING_TIMEOUT_MS" not in launch(version(), "iris", "x", 4000, HOST).env
    assert template(short) != template(version(ENTRY))


def test_a_cpu_limit_sets_the_number_of_threads_unless_the_user_does() -> None:
    limited = replace(version(replace(COMMAND, env={"OMP_NUM_THREADS": "7"})), resources=Resources(cpu_limit=1.2))
    env = launch(limited, "iris", "x", 4000, HOST).env
    assert env["OPENBLAS_NUM_THREADS"] == "2" and env["OMP_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in launch(version(), "iris", "x", 4000, HOST).env


@pytest.mark.parametrize(
    "changed",
    [
        replace(version(), share=0.1, is_default=False, type=VersionType.TREATMENT),
        replace(version(), queue_wait_s=9.0, scoring_timeout_s=9.0, slots_per_replica=8, liveness=LivenessProbe(1.0)),
        replace(version(), replica=replace(COMMAND, score_path="/other", health_path="/live", port=80)),
        replace(version(), resources=Resources(cpu=0.5, memory_limit_bytes=10**9)),
        replace(version(), autoscale=AutoscalePolicy(max_replicas=99)),
    ],
)
def test_settings_outside_the_process_leave_the_template_unchanged(changed: Version) -> None:
    assert template(changed) == template(version())


@pytest.mark.parametrize(
    "changed",
    [
        replace(version(), replica=replace(COMMAND, command=("python3", "server2.py"))),
        replace(version(), replica=replace(COMMAND, env={"A": "1"})),
        replace(version(), replica=replace(COMMAND, source_directory="/other")),
        replace(version(), replica=replace(COMMAND, model_dir="/models")),
        replace(version(), resources=Resources(cpu_limit=1.0)),
        version(ENTRY),
    ],
)
def test_settings_of_the_process_change_the_template(changed: Version) -> None:
    assert template(changed) != template(version())


def test_the_number_of_slots_of_an_entry_script_is_its_number_of_workers() -> None:
    assert template(replace(version(ENTRY), slots_per_replica=2)) != template(version(ENTRY))


def test_static_replicas_have_one_template_for_any_addresses() -> None:
    one, two = (ReplicaSource(ReplicaKind.STATIC, static=static) for static in (("a:1",), ("b:2", "a:1")))
    assert template(version(one)) == template(version(two))


def test_a_reference_in_env_takes_the_variable_of_up_and_a_doubled_dollar_stays() -> None:
    env = {"HOME_OF": "${HOME}/x", "PLAIN": "$HOME $${HOME} {HOME}", "BOTH": "${HOME}:{port}"}
    found = launch(version(replace(COMMAND, env=env)), "iris", "x", 4000, HOST).env
    assert (found["HOME_OF"], found["PLAIN"]) == ("/home/ada/x", "$HOME ${HOME} {HOME}")
    assert found["BOTH"] == "/home/ada:4000"


def test_a_reference_to_a_missing_variable_or_to_a_setting_of_scorefront_is_a_fault_without_its_value() -> None:
    source = replace(ENTRY, env={"A": "${ABSENT}", "B": "x${SCOREFRONT_TOKEN}", "C": "$${ABSENT}", "D": "${HOME}"})
    found = check(Endpoint("iris", Auth.KEY, (version(source),)), HOST, InterpretersOnly())
    wrong = {fault.path: str(fault) for fault in found if ".env." in fault.path}
    assert wrong.keys() == {"spec.versions[0].replica.env.A", "spec.versions[0].replica.env.B"}
    assert "${ABSENT}" in wrong["spec.versions[0].replica.env.A"] and "s3cret" not in str(wrong)


def test_a_variable_that_is_not_set_after_a_restart_of_up_is_an_error_at_the_start_of_the_replica() -> None:
    with pytest.raises(OSError, match=r"env.A: names \$\{GONE\}"):
        launch(version(replace(COMMAND, env={"A": "${GONE}"})), "iris", "x", 4000, HOST)


def faults(source: ReplicaSource, host: Host = HOST) -> dict[str, str]:
    other = version(ReplicaSource(ReplicaKind.STATIC, static=("127.0.0.1:1",)))
    found = check(Endpoint("iris", Auth.KEY, (other, version(source))), host, InterpretersOnly())
    return {fault.path.removeprefix("spec.versions[1].replica."): fault.rule for fault in found}


@pytest.mark.parametrize(
    "source",
    [
        ReplicaSource(ReplicaKind.IMAGE, image="x:1"),
        ReplicaSource(ReplicaKind.POD_TEMPLATE, pod_template={}),
        ReplicaSource(ReplicaKind.WORKLOAD_REF, workload_ref=WorkloadRef("Deployment", "x")),
    ],
)
def test_kinds_that_need_a_cluster_are_faults(source: ReplicaSource) -> None:
    assert faults(source) == {source.kind.value: "needs a cluster; on one machine use entryScript, command or static"}


def test_every_file_that_is_missing_is_a_fault_of_its_own(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    entry = replace(ENTRY, entry_script=missing, model_dir=missing, source_directory=missing)
    assert faults(entry).keys() == {"entryScript", "modelDir", "sourceDirectory"}
    script = tmp_path / "score.py"
    script.touch()
    assert faults(replace(ENTRY, entry_script=str(script), model_dir=str(tmp_path))) == {}


def test_an_entry_script_needs_the_inference_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "score.py"
    script.touch()
    entry, here = (
        replace(ENTRY, entry_script=str(script), model_dir=str(tmp_path)),
        replace(HOST, python=sys.executable),
    )
    assert faults(entry, here) == {}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'scorefront[serve]'" in faults(entry, here)["entryScript"]
    assert faults(entry) == {}  # another interpreter: its packages are not known


def test_a_command_must_be_a_program_beside_us_on_the_path_or_in_its_directory(tmp_path: Path) -> None:
    host = replace(HOST, environ={"PATH": str(tmp_path / "bin")})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "serve").touch(mode=0o755)
    (tmp_path / "notes").touch(mode=0o644)
    source = replace(COMMAND, source_directory=str(tmp_path))
    found = {
        program: faults(replace(source, command=(program,)), host).keys()
        for program in ("python", "serve", "bin/serve", "./notes", "absent")
    }
    fault = {"command[0]"}
    assert found == {"python": set(), "serve": set(), "bin/serve": set(), "./notes": fault, "absent": fault}
