"""F3: a pod template may not ask for more than restricted pods have, by any way into the installation."""

import asyncio
from typing import Any

import pytest

from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS
from cluster.kubernetes.objects.confinement import PodTemplates
from cluster.kubernetes.objects.deployment import faults_of, pod_template
from router.settings import SettingError
from scorefront.control.control_process import pod_templates
from serving.endpoint import Endpoint, VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from tests.fakes.cluster import Leadership, scoring_endpoint
from tests.unit.serving.documents import document, version

Object = dict[str, Any]

SOUND: Object = {
    "serviceAccountName": "default",
    "automountServiceAccountToken": False,
    "shareProcessNamespace": True,
    "hostUsers": False,
    "nodeSelector": {"gpu": "true"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
    "imagePullSecrets": [{"name": "registry"}],
    "runtimeClassName": "nvidia",
    "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    "volumes": [
        {"name": "a", "configMap": {"name": "c"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "d", "projected": {"sources": [{"configMap": {"name": "c"}}, {"downwardAPI": {"items": []}}]}},
    ],
    "initContainers": [{"name": "i", "image": "i:1"}],
    "containers": [
        {
            "name": "m",
            "image": "m:1",
            "ports": [{"name": "scoring", "containerPort": 5001}],
            "env": [
                {"name": "A", "value": "b"},
                {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "c"}}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 5001}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "privileged": False,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            },
        }
    ],
}
BAD_POD: dict[str, Object] = {
    "serviceAccountName": {"serviceAccountName": "scorefront-control"},
    "serviceAccount": {"serviceAccount": "scorefront-control"},
    "automountServiceAccountToken": {"automountServiceAccountToken": True},
    "hostNetwork": {"hostNetwork": True},
    "hostPID": {"hostPID": True},
    "hostIPC": {"hostIPC": "true"},
    "hostUsers": {"hostUsers": True},
    "dnsPolicy": {"dnsPolicy": "ClusterFirstWithHostNet"},
    "nodeName": {"nodeName": "node-1"},
    "priorityClassName": {"priorityClassName": "system-node-critical"},
    "priority": {"priority": 2_000_000_000},
    "preemptionPolicy": {"preemptionPolicy": "PreemptLowerPriority"},
    "ephemeralContainers": {"ephemeralContainers": [{"name": "e"}]},
    "fieldOfTheFuture": {"fieldOfTheFuture": {"host": True}},
    "HostNetwork": {"HostNetwork": True},
    "volumes[0].secret": {"volumes": [{"name": "v", "secret": {"secretName": "scorefront-peers-ca"}}]},
    "volumes[0].hostPath": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
    "volumes[0].csi": {"volumes": [{"name": "v", "csi": {"driver": "secrets-store.csi.k8s.io"}}]},
    "volumes[0].nfs": {"volumes": [{"name": "v", "nfs": {"server": "x", "path": "/"}}]},
    "volumes[0].projected.sources[1].serviceAccountToken": {
        "volumes": [
            {"name": "v", "projected": {"sources": [{"configMap": {}}, {"serviceAccountToken": {"path": "t"}}]}}
        ]
    },
    "volumes[0].projected.sources[0].secret": {
        "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "iris-keys"}}]}}]
    },
    "securityContext.runAsUser": {"securityContext": {"runAsUser": 0}},
    "securityContext.runAsNonRoot": {"securityContext": {"runAsNonRoot": False}},
    "securityContext.windowsOptions": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "securityContext.seccompProfile.type": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "securityContext.appArmorProfile.type": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "securityContext.seLinuxOptions.type": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}},
    "securityContext.seLinuxOptions.user": {"securityContext": {"seLinuxOptions": {"user": "root"}}},
    "securityContext.sysctls[0].name": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
}
BAD_CONTAINER: dict[str, Object] = {
    "securityContext.privileged": {"securityContext": {"privileged": True}},
    "securityContext.allowPrivilegeEscalation": {"securityContext": {"allowPrivilegeEscalation": True}},
    "securityContext.capabilities.add": {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}},
    "securityContext.runAsUser": {"securityContext": {"runAsUser": 0}},
    "securityContext.procMount": {"securityContext": {"procMount": "Unmasked"}},
    "ports[0].hostPort": {"ports": [{"containerPort": 5001, "hostPort": 80}]},
    "env[0].valueFrom.secretKeyRef": {
        "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "scorefront-signing", "key": "k"}}}]
    },
    "envFrom[0].secretRef": {"envFrom": [{"secretRef": {"name": "scorefront-control-token"}}]},
    "livenessProbe.httpGet.host": {"livenessProbe": {"httpGet": {"host": "169.254.169.254", "port": 80}}},
    "startupProbe.tcpSocket.host": {"startupProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 80}}},
    "lifecycle.preStop.httpGet.host": {"lifecycle": {"preStop": {"httpGet": {"host": "10.0.0.1", "port": 80}}}},
    "lifecycle.postStart.tcpSocket.host": {"lifecycle": {"postStart": {"tcpSocket": {"host": "x", "port": 80}}}},
    "newField": {"newField": True},
}
CASES = {
    **{f"spec.{place}": {**SOUND, **change} for place, change in BAD_POD.items()},
    **{
        f"spec.{kind}[0].{place}": {**SOUND, kind: [{"name": "x", "image": "x:1", **change}]}
        for kind in ("containers", "initContainers")
        for place, change in BAD_CONTAINER.items()
    },
}


def endpoint(spec: Object, **metadata: Any) -> Endpoint:
    return to_endpoint(parse(document(version(replica={"podTemplate": {"metadata": metadata, "spec": spec}}))))


@pytest.mark.parametrize("place", CASES)
def test_a_template_beyond_restricted_is_refused_with_place_value_and_rule(place: str) -> None:
    [fault] = faults_of(endpoint(CASES[place]))
    assert fault.path == f"spec.versions[0].replica.podTemplate.{place}"
    assert fault.value is not None
    assert "SCOREFRONT_POD_TEMPLATE" in fault.rule
    assert faults_of(endpoint(CASES[place]), PodTemplates.ANY) == []


def test_a_restricted_template_is_accepted() -> None:
    assert faults_of(endpoint(SOUND)) == []
    nothing = dict.fromkeys([*SOUND, "nodeName", "priorityClassName"])
    assert faults_of(endpoint({**nothing, "containers": SOUND["containers"]})) == []


def test_an_unconfined_profile_in_an_annotation_is_refused() -> None:
    key = "container.apparmor.security.beta.kubernetes.io/m"
    [fault] = faults_of(endpoint(SOUND, annotations={key: "unconfined"}))
    assert key in fault.path
    assert faults_of(endpoint(SOUND, annotations={key: "runtime/default"})) == []


@pytest.mark.parametrize(
    "strange",
    [
        {"volumes": "x", "initContainers": {"a": 1}, "securityContext": []},
        {"containers": [{"env": ["x"], "envFrom": "y", "ports": [None], "lifecycle": [], "securityContext": "z"}]},
        {"securityContext": {"seccompProfile": {"type": {"a": 1}}, "sysctls": [{"name": []}], "runAsUser": "0"}},
    ],
)
def test_a_template_of_strange_types_is_judged_without_an_error(strange: Object) -> None:
    assert isinstance(faults_of(endpoint({**SOUND, **strange})), list)


def test_off_refuses_every_template_and_nothing_else() -> None:
    [fault] = faults_of(endpoint(SOUND), PodTemplates.OFF)
    assert fault.path == "spec.versions[0].replica.podTemplate"
    assert "SCOREFRONT_POD_TEMPLATE=off" in fault.rule
    assert faults_of(to_endpoint(parse(document(version(replica={"image": "m:1"})))), PodTemplates.OFF) == []


def test_no_token_is_mounted_unless_a_template_says_so() -> None:
    bare = {"containers": [{"name": "m", "image": "m:1"}]}
    for said, expected in ((None, False), (False, False), (True, True)):
        [made] = endpoint({**bare, "automountServiceAccountToken": said}).versions
        assert pod_template(VersionKey("iris", "blue"), made)["spec"]["automountServiceAccountToken"] is expected


@pytest.mark.parametrize("text", ["off", "restricted", "any"])
def test_the_setting_is_read(text: str) -> None:
    assert pod_templates({"SCOREFRONT_POD_TEMPLATE": text}) == text
    assert pod_templates({}) is PodTemplates.RESTRICTED


@pytest.mark.parametrize("text", ["", "Any", "none", "all"])
def test_a_wrong_setting_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingError, match=r"SCOREFRONT_POD_TEMPLATE: must be one of off, restricted, any"):
        pod_templates({"SCOREFRONT_POD_TEMPLATE": text})


# ---- every way in

HOSTILE = {"podTemplate": {"spec": {"containers": [{"name": "m", "image": "m:1"}], "serviceAccountName": "admin"}}}
VERSION: Object = {"name": "blue", "replica": HOSTILE}


def test_by_kubectl_it_is_invalid_and_makes_no_deployment() -> None:
    async def scenario() -> None:
        leader = await Leadership().start()
        leader.kubernetes.put(ENDPOINTS, scoring_endpoint(versions=[VERSION]))
        await leader.settle(3)
        assert not leader.kubernetes.all(DEPLOYMENTS)
        await leader.settle(10)
        [found] = leader.kubernetes.all(ENDPOINTS)
        told = {each["type"]: each for each in found["status"]["conditions"]}
        assert any(each["reason"] == "Invalid" and "serviceAccountName" in each["message"] for each in told.values())
        await leader.stop()

    asyncio.run(scenario())


def test_one_that_is_stored_already_is_not_made_by_a_new_leader() -> None:
    async def scenario() -> None:
        leader = Leadership()
        leader.kubernetes.put(ENDPOINTS, scoring_endpoint(versions=[VERSION]))
        await leader.start()
        await leader.settle(3)
        assert not leader.kubernetes.all(DEPLOYMENTS)
        await leader.stop()

    asyncio.run(scenario())


def test_by_rest_it_is_refused_and_nothing_is_stored() -> None:
    async def scenario() -> None:
        leader = await Leadership().start()
        with pytest.raises(InvalidManifest, match="serviceAccountName"):
            await leader.plane.endpoints.apply(document(version(replica=HOSTILE)))
        assert not leader.kubernetes.all(ENDPOINTS)
        await leader.stop()

    asyncio.run(scenario())
