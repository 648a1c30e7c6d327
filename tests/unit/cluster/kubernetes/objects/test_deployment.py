"""The Deployment of a version."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.objects import deployment as made
from cluster.kubernetes.objects.confinement import PodTemplates
from cluster.kubernetes.objects.deployment import (
    deployment,
    faults_of,
    has_our_liveness,
    pod_template,
    resources_of,
    workload_of,
)
from cluster.kubernetes.objects.labels import OwnerRef
from serving.endpoint import Resources, Version, VersionKey, WorkloadRef
from serving.manifest import parse, to_endpoint
from tests.unit.serving.documents import document, version

KEY = VersionKey("iris", "blue")
IMAGE = {"image": "registry.example.com/model:1"}
ADMISSION = Path(__file__).parents[5] / "deploy" / "base" / "admission.yaml"
LABELS = {"scorefront.io/endpoint": "iris", "scorefront.io/version": "blue"}


def declared(replica: dict[str, Any], **fields: Any) -> Version:
    [only] = to_endpoint(parse(document(version(replica=replica, **fields)))).versions
    return only


def pod_of(replica: dict[str, Any], **fields: Any) -> dict[str, Any]:
    template = pod_template(KEY, declared(replica, **fields))
    return template["spec"]


def container_of(replica: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return pod_of(replica, **fields)["containers"][0]


def test_a_deployment_finds_its_pods_by_endpoint_and_version_and_is_owned_by_the_endpoint() -> None:
    body = deployment("iris", "home", declared(IMAGE), OwnerRef("iris", "u-1"))
    assert body["metadata"]["name"] == "iris-blue" and body["metadata"]["namespace"] == "home"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert body["spec"]["selector"] == {"matchLabels": LABELS}
    assert body["spec"]["template"]["metadata"]["labels"].items() >= LABELS.items()


def test_the_number_of_replicas_is_not_applied() -> None:
    assert "replicas" not in deployment("iris", "home", declared(IMAGE), OwnerRef("iris", "u-1"))["spec"]


def test_a_rolling_update_never_serves_with_fewer() -> None:
    rolling = deployment("iris", "home", declared(IMAGE), OwnerRef("iris", "u-1"))["spec"]["strategy"]
    assert rolling == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_a_rolling_update_without_room_stops_a_pod_first() -> None:
    body = deployment("iris", "home", declared(IMAGE), OwnerRef("iris", "u-1"), replaces=True)
    assert body["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 1


def test_the_same_version_makes_the_same_pods_and_another_score_path_or_slot_does_too() -> None:
    before = pod_template(KEY, declared(IMAGE))
    after = declared({**IMAGE, "scorePath": "/v2"}, maxConcurrentRequestsPerContainer=4, trafficPercentile=50)
    assert pod_template(KEY, after) == before


def test_an_image_listens_on_its_port_with_its_environment() -> None:
    container = container_of({**IMAGE, "port": 8000, "env": {"A": "1", "B": ""}})
    assert container["image"] == IMAGE["image"]
    assert container["ports"] == [{"name": "scoring", "containerPort": 8000, "protocol": "TCP"}]
    variables = {variable["name"]: variable["value"] for variable in container["env"]}
    assert variables == {"A": "1", "B": "", "SCORING_TIMEOUT_MS": "60200"}


@pytest.mark.parametrize("source", ["image", "podTemplate"])
def test_the_server_in_a_pod_ends_a_request_a_little_after_the_router_unless_the_user_says_when(source: str) -> None:
    def value(**env: str) -> str:
        given = [{"name": name, "value": value} for name, value in env.items()]
        template = {"spec": {"containers": [{"name": "mine", "image": "mine:1", "env": given}]}}
        replica = {**IMAGE, "env": env} if source == "image" else {"podTemplate": template}
        variables = container_of(replica, scoringTimeoutMs=2000)["env"]
        [found] = [variable["value"] for variable in variables if variable["name"] == "SCORING_TIMEOUT_MS"]
        return found

    assert value() == "2200" and value(SCORING_TIMEOUT_MS="9000") == "9000"


def test_an_image_runs_under_the_restricted_pod_security_standard() -> None:
    pod = pod_of(IMAGE)
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False


def test_a_pod_gets_its_registry_nodes_and_taints_from_the_declaration() -> None:
    fields: dict[str, Any] = {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"example.com/pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert pod_of({**IMAGE, **fields}).items() >= fields.items()
    assert not fields.keys() & pod_of(IMAGE).keys()


def test_an_image_that_runs_as_root_may_be_let_and_keeps_its_own_capabilities() -> None:
    pod = pod_of({**IMAGE, "runAsNonRoot": False})
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    assert pod["containers"][0]["securityContext"] == {"allowPrivilegeEscalation": False}
    assert pod_of({**IMAGE, "runAsNonRoot": True}) == pod_of(IMAGE)
    endpoint = to_endpoint(parse(document(version(replica={**IMAGE, "runAsNonRoot": False}))))
    assert faults_of(endpoint) == []
    [fault] = faults_of(endpoint, PodTemplates.OFF)
    assert fault.path == "spec.versions[0].replica.runAsNonRoot" and "SCOREFRONT_POD_TEMPLATE=off" in fault.rule


def test_a_reference_to_the_environment_of_one_machine_is_refused_and_an_escaped_one_is_text() -> None:
    env = {"HOME_OF": "a/${HOME}", "PLAIN": "$${HOME}", "SHELL": "$(x) ${1} $HOME"}
    endpoint = to_endpoint(parse(document(version(replica={**IMAGE, "env": env}))))
    [fault] = faults_of(endpoint)
    assert fault.path == "spec.versions[0].replica.env.HOME_OF" and "secretEnv" in fault.rule
    [pattern] = re.findall(r"matches\('(.*?)'\)", ADMISSION.read_text(encoding="utf-8"))
    assert [name for name, value in env.items() if re.search(pattern, value)] == ["HOME_OF"]
    variables = {each["name"]: each["value"] for each in container_of({**IMAGE, "env": env})["env"]}
    assert variables["PLAIN"] == "${HOME}" and variables["SHELL"] == env["SHELL"]


def test_replicas_are_spread_over_nodes_if_possible() -> None:
    [spread] = pod_of(IMAGE)["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
    assert spread["labelSelector"] == {"matchLabels": LABELS}


def test_a_terminating_pod_serves_on_and_has_time_for_its_requests() -> None:
    pod = pod_of(IMAGE, scoringTimeoutMs=2500)
    sleep_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert sleep_s > 1
    assert pod["terminationGracePeriodSeconds"] >= sleep_s + 3


def test_readiness_is_asked_every_second_and_a_replica_may_be_silent_while_it_scores() -> None:
    probe = container_of({**IMAGE, "healthPath": "/healthz"}, scoringTimeoutMs=60_000)["readinessProbe"]
    assert probe["httpGet"] == {"path": "/healthz", "port": 5001, "scheme": "HTTP"}
    assert probe["periodSeconds"] == 1
    assert probe["failureThreshold"] * max(probe["periodSeconds"], probe["timeoutSeconds"]) > 60
    assert container_of(IMAGE, scoringTimeoutMs=10)["readinessProbe"]["failureThreshold"] >= 3


def test_liveness_is_as_patient_as_a_request_may_be_long() -> None:
    assert container_of(IMAGE, scoringTimeoutMs=60_000)["livenessProbe"]["timeoutSeconds"] == 61
    slow = {"timeoutSeconds": 90}
    patient = container_of(IMAGE, scoringTimeoutMs=60_000, livenessProbeRequirements=slow)
    assert patient["livenessProbe"]["timeoutSeconds"] == 90


def test_liveness_by_the_kubelet_is_an_open_port_and_the_health_path_is_for_readiness() -> None:
    container = container_of({**IMAGE, "healthPath": "/healthz"})
    assert container["livenessProbe"]["tcpSocket"] == {"port": 5001} and "httpGet" not in container["livenessProbe"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/healthz"
    own = {"spec": {"containers": [{"name": "m", "livenessProbe": {"exec": {"command": ["true"]}}}]}}
    bare = {"spec": {"containers": [{"name": "m"}]}}
    assert not has_our_liveness(declared({"podTemplate": own})) and has_our_liveness(declared({"podTemplate": bare}))
    assert has_our_liveness(declared(IMAGE)) and not has_our_liveness(declared({"static": ["127.0.0.1:80"]}))


def test_liveness_is_as_declared_and_succeeds_at_once_as_the_api_demands() -> None:
    wanted = {"periodSeconds": 7, "initialDelaySeconds": 0, "timeoutSeconds": 4, "failureThreshold": 5}
    probe = {**wanted, "successThreshold": 2}
    container = container_of(IMAGE, scoringTimeoutMs=1000, livenessProbeRequirements=probe)
    alive = container["livenessProbe"]
    assert {name: alive[name] for name in wanted} == wanted
    assert alive["successThreshold"] == 1
    assert container["readinessProbe"]["successThreshold"] == 2
    assert "startupProbe" not in container


def test_a_rollout_is_stuck_only_after_a_start_may_have_failed_twice() -> None:
    slow = {"initialDelaySeconds": 3000, "periodSeconds": 100, "failureThreshold": 10}
    body = deployment("iris", "home", declared(IMAGE, livenessProbeRequirements=slow), OwnerRef("iris", "u-1"))
    assert body["spec"]["progressDeadlineSeconds"] == 8000
    quick = deployment(
        "iris", "home", declared(IMAGE, livenessProbeRequirements={"initialDelaySeconds": 0}), OwnerRef("", "")
    )
    assert quick["spec"]["progressDeadlineSeconds"] == 600


@pytest.mark.parametrize(
    ("resources", "written"),
    [
        (Resources(), {"requests": {"cpu": "100m", "memory": "500000000"}}),
        (Resources(cpu=2, memory_bytes=1), {"requests": {"cpu": "2", "memory": "1"}}),
        (Resources(cpu=0.29), {"requests": {"cpu": "290m", "memory": "500000000"}}),
        (Resources(cpu=0.00001), {"requests": {"cpu": "1m", "memory": "500000000"}}),
        (
            Resources(cpu=1.5, cpu_limit=2.5, memory_bytes=10, memory_limit_bytes=20, gpu=2),
            {
                "requests": {"cpu": "1500m", "memory": "10"},
                "limits": {"cpu": "2500m", "memory": "20", "nvidia.com/gpu": "2"},
            },
        ),
    ],
)
def test_resources_are_written_as_quantities(resources: Resources, written: dict[str, Any]) -> None:
    assert resources_of(resources) == written


@given(st.floats(0.001, 10_000))
def test_a_replica_is_given_no_less_cpu_than_declared(cores: float) -> None:
    text = resources_of(Resources(cpu=cores))["requests"]["cpu"]
    given_cores = float(text.removesuffix("m")) / (1000 if text.endswith("m") else 1)
    assert cores - 1e-8 <= given_cores < cores + 0.001


MINE: dict[str, Any] = {
    "metadata": {"labels": {"team": "flowers"}, "annotations": {"a": "b"}},
    "spec": {
        "terminationGracePeriodSeconds": 7,
        "volumes": [{"name": "models", "emptyDir": {}}],
        "containers": [
            {"name": "logs", "image": "logs:1"},
            {
                "name": "mine",
                "image": "mine:1",
                "ports": [{"containerPort": 8000}],
                "readinessProbe": {"exec": {"command": ["true"]}},
                "resources": {"requests": {"cpu": "3"}},
                "lifecycle": {"preStop": {"exec": {"command": ["leave"]}}, "postStart": {"sleep": {"seconds": 1}}},
            },
        ],
    },
}


def test_a_template_of_the_user_is_kept_but_for_our_labels() -> None:
    kept = pod_template(KEY, declared({"podTemplate": MINE, "port": 8000}))
    expected = copy.deepcopy(MINE)
    expected["metadata"]["labels"] = {"team": "flowers", **LABELS}
    expected["spec"]["automountServiceAccountToken"] = False
    expected["spec"]["containers"][1]["env"] = [{"name": "SCORING_TIMEOUT_MS", "value": "60200"}]
    expected["spec"]["containers"][1]["livenessProbe"] = kept["spec"]["containers"][1]["livenessProbe"]
    assert kept == expected
    assert kept["spec"]["containers"][1]["livenessProbe"]["tcpSocket"]["port"] == 8000


def test_missing_parts_of_a_template_are_added_to_the_serving_container() -> None:
    bare = {"spec": {"containers": [{"name": "mine", "image": "mine:1"}, {"name": "beside", "image": "b:1"}]}}
    first, second = pod_of({"podTemplate": bare}, containerResourceRequirements={"gpu": 1})["containers"]
    assert first["ports"][0]["containerPort"] == 5001
    assert first["readinessProbe"] and first["livenessProbe"] and first["lifecycle"]["preStop"]
    assert first["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert "securityContext" not in first
    assert second == {"name": "beside", "image": "b:1"}


def with_resources(**resources: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": {"containers": [{"name": "m", "resources": resources}]}}}


def test_declared_resources_are_added_to_those_of_a_template_and_defaults_are_not() -> None:
    template = with_resources(requests={"cpu": "1"})
    container = container_of(template, containerResourceRequirements={"memoryInGB": 16, "gpu": 1})
    assert container["resources"] == {
        "requests": {"cpu": "1", "memory": "16000000000"},
        "limits": {"nvidia.com/gpu": "1"},
    }
    assert container_of(template)["resources"] == {"requests": {"cpu": "1"}}


def faulty(replica: dict[str, Any], **fields: Any) -> list[str]:
    faults = faults_of(to_endpoint(parse(document(version(replica=replica, **fields)))))
    return [fault.path.removeprefix("spec.versions[0].") for fault in faults]


def test_what_a_template_or_an_adopted_workload_states_itself_is_refused_beside_it() -> None:
    template = with_resources(requests={"cpu": "1"})
    contradiction = {"cpu": 4, "gpu": 1}
    assert faulty(template, containerResourceRequirements=contradiction) == ["containerResourceRequirements.cpu"]
    assert faulty(template, containerResourceRequirements={"cpu": 1}) == []
    probed = {"podTemplate": {"spec": {"containers": [{"name": "m", "livenessProbe": {"exec": {"command": ["x"]}}}]}}}
    slow = {"periodSeconds": 60}
    assert faulty(probed, livenessProbeRequirements=slow) == ["livenessProbeRequirements"]
    adopted = {"workloadRef": {"kind": "Deployment", "name": "own"}}
    assert faulty(adopted, containerResourceRequirements={"gpu": 1}, livenessProbeRequirements=slow) == [
        "containerResourceRequirements.gpu",
        "livenessProbeRequirements",
    ]
    assert faulty(adopted) == faulty(probed) == []


@pytest.mark.parametrize("empty", [{"metadata": None}, {"metadata": {"labels": None}}, {}])
def test_a_template_may_say_nothing_of_its_metadata(empty: dict[str, Any]) -> None:
    template = {**empty, "spec": {"containers": [{"name": "m", "ports": None, "lifecycle": None}]}}
    assert pod_template(KEY, declared({"podTemplate": template}))["metadata"]["labels"] == LABELS


def test_the_declared_template_is_not_written_to() -> None:
    one = declared({"podTemplate": MINE})
    before = copy.deepcopy(one)
    pod_template(KEY, one)
    assert one == before


@pytest.mark.parametrize(
    ("replica", "workload"),
    [
        (IMAGE, WorkloadRef("Deployment", "iris-blue")),
        ({"podTemplate": MINE}, WorkloadRef("Deployment", "iris-blue")),
        ({"workloadRef": {"kind": "StatefulSet", "name": "own"}}, WorkloadRef("StatefulSet", "own")),
        ({"static": ["127.0.0.1:80"]}, None),
    ],
)
def test_the_scaled_workload_is_the_created_or_adopted_one(
    replica: dict[str, Any], workload: WorkloadRef | None
) -> None:
    assert workload_of("iris", declared(replica)) == workload
    assert (declared(replica).replica.kind in made.MADE) == (workload is not None and workload.name == "iris-blue")


def test_a_field_for_one_machine_only_is_a_fault_with_its_path() -> None:
    endpoint = to_endpoint(
        parse(
            document(
                version("blue", replica=IMAGE),
                version("green", replica={"entryScript": "score.py"}),
                version("grey", replica={"command": ["python", "x.py"]}),
                version("white", replica={"static": ["127.0.0.1:80"]}),
            )
        )
    )
    faults = faults_of(endpoint)
    assert [fault.path for fault in faults] == [
        "spec.versions[1].replica.entryScript",
        "spec.versions[2].replica.command",
    ]
    assert faults[0].value == "score.py"
    assert all("image" in fault.rule for fault in faults)
