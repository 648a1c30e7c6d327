"""`scorefront doctor` against a made-up cluster: every line is ok, or names the repair."""

import json
from typing import Any

import pytest

from scorefront.cli.app import run
from scorefront.doctor import judge
from scorefront.doctor.examine import STEPS, examine
from scorefront.doctor.judge import Dialled, Finding
from scorefront.doctor.probes import Probes
from tests.fakes.doctored import (
    CONTROL,
    ENDPOINTS,
    HOME,
    LEASE,
    MODEL,
    ROUTER,
    FakeCluster,
    endpoint,
    lease,
    pod,
    trust,
    waiting,
)

ORDER = [name for name, _, _ in STEPS]


async def look(cluster: FakeCluster, timeout_s: float = 5.0) -> list[Finding]:
    return [finding async for finding in examine(cluster, timeout_s)]


def problems(findings: list[Finding]) -> list[str]:
    return [f"{finding.check}: {finding.text}" for finding in findings if not finding.ok]


async def test_a_cluster_that_is_well_has_nothing_problems_and_is_looked_at_in_the_order_of_need() -> None:
    findings = await look(FakeCluster())
    assert problems(findings) == []
    assert list(dict.fromkeys(finding.check for finding in findings)) == ORDER


async def test_inside_the_cluster_peers_leader_and_model_pods_are_connected_to() -> None:
    cluster = FakeCluster()
    await look(cluster)
    assert sorted(cluster.dialled) == sorted(
        ["10.0.0.1:40001", "10.0.0.2:40002", "10.0.0.9:8083", "10.0.1.1:5001", "10.0.1.2:5001"]
    )


async def test_from_outside_no_pod_is_connected_to_and_nothing_is_wrong_with_that() -> None:
    cluster = FakeCluster(inside=False)
    assert problems(await look(cluster)) == []
    assert cluster.dialled == []


SPOILT: dict[str, tuple[FakeCluster, str, str]] = {
    "no DNS": (FakeCluster(unreached={"api.example.com"}), ORDER[0], "api.example.com is not resolved"),
    "no API server": (FakeCluster(broken={"/version": 503}), "API server", "does not answer"),
    "no CRD": (FakeCluster(broken={ENDPOINTS: 404}), "list and watch", "endpoints in scoring: not there"),
    "no rights": (FakeCluster(broken={f"{HOME}/pods": 403}), "list and watch", "pods in scoring: not allowed"),
    "no watches": (FakeCluster(unwatched={f"{HOME}/pods"}), "list and watch", "let lists and long watches through"),
    "no routers": (FakeCluster(lists={f"{HOME}/pods": []}), "peers", "there is no router pod"),
    "a membership that is damaged": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-routers": {"data": {"pod.x": "{"}}}),
        "peers",
        "delete the ConfigMap",
    ),
    "routers that do not know each other": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-routers": {"data": {}}}),
        "peers",
        "2 routers are ready, but 0 stand in the ConfigMap",
    ),
    "a peer out of reach": (
        FakeCluster(unreached={"10.0.0.2:40002"}),
        "peers",
        "router-2 at 10.0.0.2:40002 is not reached (connection refused)",
    ),
    "no leader ever": (FakeCluster(broken={f"{LEASE}/scorefront-control": 404}), "token issuer", "has ever led"),
    "no leader now": (
        FakeCluster(objects={f"{LEASE}/scorefront-control": lease(holder="")}),
        "token issuer",
        "no control plane leads",
    ),
    "a leader that is gone": (
        FakeCluster(objects={f"{LEASE}/scorefront-control": lease(age_s=600)}),
        "token issuer",
        "was last heard 600 s ago",
    ),
    "a leader out of reach": (FakeCluster(unreached={"10.0.0.9:8083"}), "token issuer", "port 8083"),
    "tokens, but no key": (
        FakeCluster(
            lists={ENDPOINTS: [endpoint(tokenAuthEnabled=True)]},
            objects={f"{HOME}/configmaps/scorefront-trust": trust()},
        ),
        "token issuer",
        "no issuer's key is known",
    ),
    "trust that is damaged": (
        FakeCluster(objects={f"{HOME}/configmaps/scorefront-trust": {"data": {"trust.json": "{"}}}),
        "token issuer",
        "cannot be used",
    ),
    "a model pod out of reach": (FakeCluster(unreached={"10.0.1.2:5001"}), "model pods", "scoring/iris-blue-2 at"),
    "a registry out of reach, and no pod runs": (
        FakeCluster(
            unreached={"https://other.example.com/v2/"},
            lists={ENDPOINTS: [endpoint(versions=[{"name": "a", "replica": {"image": "other.example.com/m:1"}}])]},
        ),
        "registry",
        "other.example.com is not reached",
    ),
}


@pytest.mark.parametrize(("cluster", "check", "text"), SPOILT.values(), ids=SPOILT)
async def test_a_problem_is_reported_under_the_step_that_needs_it(cluster: FakeCluster, check: str, text: str) -> None:
    findings = problems(await look(cluster))
    assert any(line.startswith(f"{check}: ") and text in line for line in findings), findings


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (waiting("ImagePullBackOff", "not found"), "ImagePullBackOff (not found)"),
        (waiting("CrashLoopBackOff"), "CrashLoopBackOff"),
        ({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}, "Evicted (low on memory)"),
        (
            {
                "phase": "Pending",
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
                ],
                "containerStatuses": [],
            },
            "Unschedulable (no GPU)",
        ),
    ],
    ids=["image", "crash", "eviction", "no room"],
)
async def test_a_model_that_does_not_start_is_named_with_the_reason_of_kubernetes(
    status: dict[str, Any], text: str
) -> None:
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    cluster = FakeCluster(lists={f"{HOME}/pods": [*routers, pod("iris-blue-1", MODEL, "", **status)]})
    assert f"model pods: scoring/iris-blue-1: {text}" in problems(await look(cluster))


async def test_a_pod_that_cannot_pull_points_at_its_registry_even_if_that_answers_here() -> None:
    sick = pod("iris-blue-1", MODEL, "", **waiting("ErrImagePull", "unauthorized"))
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    findings = problems(await look(FakeCluster(lists={f"{HOME}/pods": [*routers, sick]})))
    assert any(line.startswith("registry: registry.example.com: scoring/iris-blue-1 cannot pull") for line in findings)


async def test_a_registry_that_only_nodes_reach_is_well() -> None:
    cluster = FakeCluster(unreached={"https://registry.example.com/v2/"})
    assert problems(await look(cluster)) == []


async def test_without_the_api_server_nothing_further_is_asked() -> None:
    findings = await look(FakeCluster(broken={"/version": 0}))
    assert [finding.check for finding in findings] == ORDER[:2]


async def test_a_step_that_takes_too_long_is_reported_and_the_next_one_goes_on() -> None:
    findings = await look(FakeCluster(hangs=True), timeout_s=0.05)
    assert [line for line in problems(findings) if "took more than 0.05 s" in line and "list and watch" in line]
    assert findings[-1].check == ORDER[-1]


async def test_adopted_pods_are_found_by_the_selector_in_the_status() -> None:
    adopted = endpoint(
        versions=[{"name": "blue", "replica": {"workloadRef": {"kind": "Deployment", "name": "old"}, "port": 9000}}]
    )
    adopted["status"] = {"versions": [{"name": "blue", "selector": "app=old"}]}
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    control = pod("control-1", CONTROL, "10.0.3.1")
    cluster = FakeCluster(
        lists={f"{HOME}/pods": [*routers, control, pod("old-1", {"app": "old"}, "10.0.2.1")], ENDPOINTS: [adopted]}
    )
    assert problems(await look(cluster)) == []
    assert "10.0.2.1:9000" in cluster.dialled


async def test_static_replicas_are_connected_to() -> None:
    static = endpoint(versions=[{"name": "blue", "replica": {"static": ["192.0.2.7:9400", "[2001:db8::1]:80"]}}])
    cluster = FakeCluster(lists={ENDPOINTS: [static]})
    await look(cluster)
    assert {"192.0.2.7:9400", "2001:db8::1:80"} <= set(cluster.dialled)


async def test_of_thousands_of_pods_all_are_counted_and_some_are_connected_to() -> None:
    routers = [pod(f"router-{number}", ROUTER, f"10.0.0.{number}") for number in (1, 2)]
    models = [pod(f"iris-blue-{number}", MODEL, f"10.1.{number // 250}.{number % 250}") for number in range(1200)]
    cluster = FakeCluster(lists={f"{HOME}/pods": [*routers, *models]})
    findings = await look(cluster)
    assert any("1200 of 1200 pods ready" in finding.text for finding in findings)
    assert 40 <= sum(address.startswith("10.1.") for address in cluster.dialled) <= 50


def test_of_many_that_are_not_reached_the_first_are_named_and_the_others_counted() -> None:
    findings = judge.dialled("x", "pods", [Dialled(f"p{n}", "a:1", "refused") for n in range(25)], "mend it")
    assert len(findings) == judge.MOST_NAMED + 1
    assert "15 more pods" in findings[-1].text


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("scorefront:0.1.0", "registry-1.docker.io"),
        ("library/nginx", "registry-1.docker.io"),
        ("docker.io/library/nginx", "registry-1.docker.io"),
        ("registry.example.com/team/iris:1", "registry.example.com"),
        ("localhost/iris", "localhost"),
        ("10.0.0.1:5000/iris@sha256:00", "10.0.0.1:5000"),
    ],
)
def test_the_registry_of_an_image(image: str, host: str) -> None:
    assert judge.registry_of(image) == host


# ---- the command


def opened(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster) -> None:
    async def open_it() -> FakeCluster:
        return cluster

    monkeypatch.setattr(Probes, "open", open_it)


def test_the_command_leaves_with_0_without_problems(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch, FakeCluster())
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    DNS for the API server: api.example.com is 10.96.0.1"
    assert all(line.startswith("ok    ") for line in lines)


def test_the_command_leaves_with_1_for_problems_and_lists_them_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(monkeypatch, FakeCluster(unreached={"10.0.0.2:40002"}))
    assert run(["doctor", "-o", "json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    assert [check["check"] for check in report["checks"] if not check["ok"]] == ["peers"]


def test_without_a_cluster_the_command_names_the_missing_part(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere/config")
    assert run(["doctor"]) == 1
    assert "KUBECONFIG names a file that does not exist" in capsys.readouterr().out


def test_a_timeout_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--timeout", "0"]) == 2
    assert "--timeout" in capsys.readouterr().err


ROUTER_ACCOUNT, CONTROL_ACCOUNT = (f"system:serviceaccount:scoring:scorefront-{each}" for each in ("router", "control"))


async def test_every_right_of_both_processes_is_asked_for_and_each_missing_one_is_named() -> None:
    cluster = FakeCluster(forbidden={("list", "horizontalpodautoscalers"), ("update", "deployments")})
    found = [each.text for each in await look(cluster) if each.check == "rights" and not each.ok]
    assert [each.partition(":  ")[0].partition(": apply")[0] for each in found] == [
        f"{CONTROL_ACCOUNT} may not update deployments/scale.apps in scoring",
        f"{CONTROL_ACCOUNT} may not list horizontalpodautoscalers.autoscaling in scoring",
    ]
    users = {body["spec"]["user"] for kind, body in cluster.reviews if kind == "subjectaccessreviews"}
    assert users == {ROUTER_ACCOUNT, CONTROL_ACCOUNT}


async def test_in_a_pod_its_own_rights_are_asked_for_and_the_others_are_said_to_be_unknown() -> None:
    cluster = FakeCluster(caller=ROUTER_ACCOUNT, broken={"/subjectaccessreviews": 403})
    own, others = [each for each in await look(cluster) if each.check == "rights"]
    assert own.ok and own.text.startswith(f"{ROUTER_ACCOUNT} has all ")
    assert others.ok and others.text.startswith(f"{CONTROL_ACCOUNT}: not checked")
    assert {kind for kind, _ in cluster.reviews} >= {"selfsubjectaccessreviews", "subjectaccessreviews"}


async def test_a_control_pod_that_is_not_ready_is_named_with_the_place_of_the_reason() -> None:
    spoilt = pod("control-1", CONTROL, "10.0.2.1", conditions=[{"type": "Ready", "status": "False"}])
    found = [each for each in await look(FakeCluster(lists={f"{HOME}/pods": [spoilt]})) if each.check == "control"]
    assert [each.ok for each in found] == [False] and "scoring/control-1 is not ready" in found[0].text
    assert "readyz" in found[0].text
