"""Processes of the played node from pods, and conclusions from its journal."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.witness import Span
from tests.cluster.played import journal, judge, records, scale, volumes
from tests.cluster.played.journal import Entry, Journal
from tests.cluster.played.podstatus import ENDED, RUNNING, ContainerState, is_ready, phase, pod_status
from tests.cluster.played.recipe import (
    Facts,
    Image,
    Unplayable,
    expanded,
    files,
    image_of,
    placed,
    quantity,
    recipe,
    referred,
)
from tests.cluster.played.records import Lead, Scale

IMAGE = Image(("serve", "--host", "{ip}", "--port", "{port}", "$(MODE)"), {"MODE": "fast", "DATA": "/srv/x"})
IP = "127.99.0.1"


def pod(container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p-1", "namespace": "here", "uid": "u-1", "labels": {"app": "p"}}
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def made(container: dict[str, Any], image: Image = IMAGE, **objects: dict[str, Any]) -> tuple[tuple[str, ...], Any]:
    facts = Facts(pod(container), IP, "node-1", {"tmp": "/host/tmp", "peers": "/host/peers"})
    told = recipe(container, image, facts, lambda plural, name: objects.get(f"{plural}_{name}"))
    return told.argv, told.env


# ---- a process


def test_an_image_without_a_command_runs_its_own_at_the_address_of_the_pod() -> None:
    argv, _ = made({"ports": [{"containerPort": 5001}]})
    assert argv == ("serve", "--host", IP, "--port", "5001", "fast")


def test_arguments_follow_the_entry_point_and_a_command_takes_its_place() -> None:
    image = Image(("serve",), commands={"tool": ("python", "-m", "tool")})
    assert made({"args": ["--x"]}, image)[0] == ("serve", "--x")
    assert made({"command": ["tool", "run"], "args": ["--x"]}, image)[0] == ("python", "-m", "tool", "run", "--x")


def test_the_address_of_all_interfaces_becomes_that_of_the_pod() -> None:
    assert made({"args": ["--listen=0.0.0.0:8080"]}, Image(("serve",)))[0] == ("serve", f"--listen={IP}:8080")


def test_a_path_below_a_mount_becomes_the_folder_that_plays_the_volume() -> None:
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "peers", "mountPath": "/tmp/peers"}]
    container = {"args": ["--dir=/tmp/peers/x", "/tmp", "/tmpfile", "/srv/tmp"], "volumeMounts": mounts}
    argv, _ = made(container, Image(("serve",)))
    assert argv[1:] == ("--dir=/host/peers/x", "/host/tmp", "/tmpfile", "/srv/tmp")


def test_paths_of_the_image_are_not_moved_by_a_mount() -> None:
    container = {"volumeMounts": [{"name": "tmp", "mountPath": "/srv"}], "env": [{"name": "OWN", "value": "/srv/y"}]}
    _, env = made(container)
    assert env["DATA"] == "/srv/x"
    assert env["OWN"] == "/host/tmp/y"


def test_the_environment_is_that_of_the_image_then_of_objects_then_the_containers_own_in_order() -> None:
    container = {
        "envFrom": [{"configMapRef": {"name": "settings"}}],
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "first"}}},
            {"name": "ALL", "value": "$(POD) $(MODE) $(NOBODY) $$(POD)"},
        ],
    }
    secret = {"data": {"first": base64.b64encode(b"s3cret").decode()}}
    _, env = made(container, configmaps_settings={"data": {"MODE": "slow"}}, secrets_keys=secret)
    assert env["MODE"] == "slow"
    assert env["ADDRESS"] == IP
    assert env["KEY"] == "s3cret"
    assert env["ALL"] == "p-1 slow $(NOBODY) $(POD)"


@pytest.mark.parametrize(
    "source",
    [
        {"secretKeyRef": {"name": "absent", "key": "k"}},
        {"configMapKeyRef": {"name": "there", "key": "absent"}},
        {"fieldRef": {"fieldPath": "status.nonsense"}},
        {"resourceFieldRef": {"resource": "limits.cpu"}},
    ],
)
def test_a_missing_file_prevents_the_start_of_a_container(source: dict[str, Any]) -> None:
    with pytest.raises(Unplayable):
        made({"env": [{"name": "X", "valueFrom": source}]}, configmaps_there={"data": {}})


def test_an_optional_source_may_be_absent() -> None:
    source = {"secretKeyRef": {"name": "absent", "key": "k", "optional": True}}
    _, env = made({"env": [{"name": "X", "valueFrom": source}]})
    assert "X" not in env


def test_an_image_is_known_by_the_last_part_of_its_name() -> None:
    assert image_of({"model": IMAGE}, "registry.example:5000/team/model:2@sha256:abc") is IMAGE
    with pytest.raises(Unplayable, match="ErrImagePull"):
        image_of({"model": IMAGE}, "registry.example/models:2")


@pytest.mark.parametrize(("text", "value"), [("250m", 0.25), ("2", 2.0), ("1Gi", 2.0**30), ("1.5", 1.5)])
def test_a_quantity_is_read(text: str, value: float) -> None:
    assert quantity(text) == value


@given(st.text(alphabet="a$()0. /", max_size=20))
def test_without_names_only_escapes_and_addresses_are_expanded(text: str) -> None:
    assert expanded(text, {}) == text.replace("$$", "$")
    assert placed(text, {}, IP) == text.replace("0.0.0.0", IP)


def test_every_object_that_a_pod_names_is_found() -> None:
    container = {
        "envFrom": [{"secretRef": {"name": "a"}}],
        "env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "b", "key": "k"}}}, {"name": "Y", "value": ""}],
    }
    mounted = [
        {"name": "v", "secret": {"secretName": "c"}},
        {"name": "w", "projected": {"sources": [{"configMap": {"name": "d"}}, {"secret": {"name": "e"}}]}},
        {"name": "kube-api-access-x", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
        {"name": "x", "emptyDir": {}},
    ]
    wanted = {("secrets", "a"), ("configmaps", "b"), ("secrets", "c"), ("configmaps", "d"), ("secrets", "e")}
    assert referred(pod(container, volumes=mounted)) == wanted


def test_a_secret_that_is_mounted_but_absent_keeps_a_pod_waiting_unless_it_is_optional() -> None:
    facts = Facts(pod({}), IP, "node-1", {})
    volume = {"name": "v", "secret": {"secretName": "absent"}}
    with pytest.raises(Unplayable):
        files(volume, facts, lambda *_: None)
    volume["secret"] = {"secretName": "absent", "optional": True}
    assert files(volume, facts, lambda *_: None) == {}


# ---- volumes


def test_readers_see_the_old_files_or_the_new_ones(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert volumes.write(folder, {"tls.crt": b"1", "tls.key": b"1", "old": b"1"})
    held = (folder / "..data").resolve()
    assert not volumes.write(folder, {"tls.crt": b"1", "tls.key": b"1", "old": b"1"})
    assert (folder / "..data").resolve() == held
    assert volumes.write(folder, {"tls.crt": b"2", "tls.key": b"2"})
    assert (folder / "..data").resolve() != held
    assert {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith("..")} == {
        "tls.crt": b"2",
        "tls.key": b"2",
    }


def test_a_volume_of_an_optional_secret_that_is_absent_is_empty(tmp_path: Path) -> None:
    assert volumes.write(tmp_path / "v", {})
    assert [path.name for path in (tmp_path / "v").iterdir() if not path.name.startswith("..")] == []


# ---- the status

WAITS = ContainerState("a", "i")
RUNS = ContainerState("a", "i", state=RUNNING, since="t0")
PASSES = ContainerState("a", "i", state=RUNNING, since="t0", passes=True)
FAILED = ContainerState("a", "i", state=ENDED, since="t0", exit_code=1, restarts=1)


def test_a_pod_is_ready_when_all_its_containers_run_and_pass() -> None:
    assert is_ready({"status": pod_status([PASSES, PASSES], {}, IP, "t1")})
    assert not is_ready({"status": pod_status([PASSES, RUNS], {}, IP, "t1")})


def test_a_condition_that_has_not_changed_keeps_its_time() -> None:
    first = pod_status([PASSES], {}, IP, "t1")
    same = pod_status([PASSES], first, IP, "t2")
    other = pod_status([RUNS], first, IP, "t2")
    assert {each["type"]: each["lastTransitionTime"] for each in same["conditions"]}["Ready"] == "t1"
    assert {each["type"]: each["lastTransitionTime"] for each in other["conditions"]}["Ready"] == "t2"


@pytest.mark.parametrize(
    ("states", "over", "expected"),
    [
        ([WAITS], False, "Pending"),
        ([RUNS, WAITS], False, "Pending"),
        ([RUNS], False, "Running"),
        ([FAILED], False, "Running"),
        ([FAILED], True, "Failed"),
        ([RUNS], True, "Succeeded"),
    ],
)
def test_a_pod_that_has_run_stays_running_until_it_is_over(
    states: list[ContainerState], over: bool, expected: str
) -> None:
    assert phase(states, over) == expected


# ---- conclusions


def test_a_journal_is_read_as_it_was_written_without_its_unfinished_last_line(tmp_path: Path) -> None:
    written = Journal(tmp_path / "journal")
    written.note(journal.STARTED, "here/p-1", "u-1", IP, "model", 7)
    written.close()
    with (tmp_path / "journal").open("a") as file:
        file.write('{"at_s": 1')
    (entry,) = journal.read(tmp_path / "journal")
    assert (entry.what, entry.pod, entry.pid) == (journal.STARTED, "here/p-1", 7)


def entries(*told: tuple[float, str, str, int]) -> list[Entry]:
    return [Entry(at_s, what, f"here/{uid}", uid, pid=pid) for at_s, what, uid, pid in told]


STORY = entries(
    (1, journal.BOUND, "a", 0),
    (2, journal.STARTED, "a", 11),
    (3, journal.READY, "a", 0),
    (4, journal.BOUND, "b", 0),
    (5, journal.STARTED, "b", 12),
    (6, journal.READY, "b", 0),
    (9, journal.LEAVING, "b", 0),
    (9.5, journal.BOUND, "c", 0),
)


def test_a_pod_that_ended_its_work_before_it_was_deleted_was_idle() -> None:
    assert [each.late for each in judge.removals(STORY, [Span(7, 8.9, "12", "r")], 0, "here/")] == [0]


@pytest.mark.parametrize("span", [Span(8, 9.1, "12", "r"), Span(9.2, 9.4, "12", "r")])
def test_a_pod_that_worked_when_it_was_deleted_or_afterwards_was_not(span: Span) -> None:
    (removal,) = judge.removals(STORY, [span, Span(8, 20, "11", "other pod")], 0, "here/")
    assert (removal.pod, removal.late) == ("here/b", 1)


def test_the_first_request_of_a_pod_counts_from_its_readiness() -> None:
    spans = [Span(3.5, 4, "11", "early"), Span(6.25, 7, "12", "x"), Span(6.75, 8, "12", "y")]
    assert judge.first_request_s(STORY, spans, since_s=5) == [0.25]


def test_pods_at_once_are_those_that_are_bound_and_not_ordered_to_leave() -> None:
    assert judge.most_alive(STORY, 0, 8, "here/") == 2
    assert judge.most_alive(STORY, 9.6, 20, "here/") == 2
    assert judge.most_alive(STORY, 0, 2, "here/") == 1
    assert judge.most_alive(STORY, 0, 20, "there/") == 0


def test_only_a_number_above_the_earlier_wanted_one_counts_as_raised() -> None:
    seen = [Scale(1, "w", 2), Scale(5, "w", 2), Scale(6, "w", 1), Scale(7, "w", 4)]
    assert judge.raised_after_s(seen, 4) == 3
    assert judge.raised_after_s(seen, 8) == float("inf")
    assert judge.raised_after_s([], 0) == float("inf")


def test_the_lowest_and_the_highest_number_include_the_first_wanted_one() -> None:
    seen = [Scale(1, "w", 2), Scale(5, "w", 6), Scale(9, "w", 1)]
    assert records.highest(seen, 6, 10) == 6
    assert records.highest(seen, 9, 10) == 1
    assert records.lowest(seen, 3, 8) == 2
    assert records.lowest(seen, 5, 8) == 6
    assert records.lowest(seen, 5, 9) == 1


def test_steps_are_changes_of_the_number_of_one_workload() -> None:
    seen = [Scale(1, "w", 2), Scale(2, "x", 9), Scale(3, "w", 2), Scale(4, "w", 3)]
    assert [each.at_s for each in records.steps(seen, "w")] == [1, 4]


def test_a_write_with_an_older_fence_is_found_for_any_other_workload() -> None:
    assert records.fallen_back([Scale(1, "w", 1, 3), Scale(2, "x", 1, 2), Scale(3, "w", 1, 4)]) == 0
    assert records.fallen_back([Scale(1, "w", 1, 3), Scale(2, "w", 1, 4), Scale(3, "w", 1, 3)]) == 1


def test_another_holder_needs_another_transition() -> None:
    first = Lead(1, "l", "a", 1)
    assert records.at_once([first, Lead(2, "l", "a", 1), Lead(3, "l", "b", 2)]) == 0
    assert records.at_once([first, Lead(2, "l", "", 1), Lead(3, "l", "b", 2)]) == 0
    assert records.at_once([first, Lead(2, "l", "b", 1)]) == 1


def test_every_pod_of_the_large_cluster_has_an_address_of_its_own() -> None:
    given_out = {scale.address(endpoint, pod) for endpoint in range(1000) for pod in range(8)}
    assert len(given_out) == 8000
    assert all(0 < int(part) < 255 for each in given_out for part in each.split(".")[3:])


def test_the_status_of_a_leader_is_made_of_a_manifest_and_its_pods() -> None:
    made_object = scale.endpoint_object(7, 5001)
    labels = scale.pod_object(7, 2, 5001)["metadata"]["labels"]
    assert labels["scorefront.io/endpoint"] == made_object["metadata"]["name"]
    assert labels["scorefront.io/version"] == scale.endpoint_status(5)["versions"][0]["name"]
