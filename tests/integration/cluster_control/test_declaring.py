import base64
import hashlib
from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import RequestRefused
from cluster.kubernetes.client.paths import CONFIGMAPS, DEPLOYMENTS, ENDPOINTS, EVENTS, PODS, SECRETS
from cluster.kubernetes.objects.keys import KeyEntry, encoded_entry
from controlplane.control_errors import ConflictingChange, InvalidCall, NoSuchEndpoint, StoreUnavailable
from controlplane.keys import KeyType
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.replica import ReplicaState
from tests.fakes.cluster import BLUE, Leadership, image, scoring_endpoint
from tests.fakes.object_rules import Object

PRIMARY, SECONDARY = "p" * 40, "s" * 40
TWO = [image("blue", isDefault=True), image("green")]


def write_entry(leader: Leadership, primary: str, secondary: str) -> None:
    """A user writes the keys of iris into the Secret."""
    entry = KeyEntry(leader.endpoint()["metadata"]["uid"], primary, secondary)
    data = {"home.iris": base64.b64encode(encoded_entry(entry)).decode()}
    leader.kubernetes.edit(SECRETS, "scorefront-keys", {"data": data})


def reasons(leader: Leadership) -> list[str]:
    return [each["reason"] for each in leader.kubernetes.all(EVENTS)]


def document(**changes: Any) -> Object:
    found = scoring_endpoint(**changes)
    return {**found, "metadata": {"name": found["metadata"]["name"]}}


# ---- by kubectl


async def test_an_endpoint_declared_by_kubectl_runs_has_keys_and_a_status(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    keys = leader.plane.endpoints.keys("iris")
    status = leader.endpoint()["status"]
    assert status["keys"]["primarySha256"] == hashlib.sha256(keys.primary.encode()).hexdigest()
    assert (status["ready"], status["replicas"], status["observedGeneration"]) == ("1/1", 1, 1)
    assert status["scoringUri"] == "http://scorefront/api/v1/service/iris/score"
    assert leader.conditions()["Ready"][0] == "True"
    assert leader.endpoint()["metadata"]["finalizers"] == ["scorefront.io/drain"]
    owners = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["metadata"]["ownerReferences"]
    assert owners[0]["uid"] == leader.endpoint()["metadata"]["uid"]
    assert {"Created", "Ready"} <= set(reasons(leader))


async def test_a_changed_image_is_applied_and_no_number_is_asked_for(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=3)]))
    scaled = len(leader.kubernetes.writes("replace", "/scale"))
    spec = {"versions": [{**image(minimum=3), "replica": {"image": "registry/model:2"}}]}
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": spec})
    await leader.settle(1)
    found = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]
    assert found["template"]["spec"]["containers"][0]["image"] == "registry/model:2" and found["replicas"] == 3
    assert len(leader.kubernetes.writes("replace", "/scale")) == scaled
    assert all("replicas" not in body["spec"] for body in leader.kubernetes.writes("apply"))


async def test_statuses_that_we_write_ourselves_cause_nothing(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = len(leader.kubernetes.calls)
    await leader.settle(20)
    assert len(leader.kubernetes.calls) == before


async def test_an_endpoint_that_cannot_run_in_a_cluster_has_a_condition_and_the_running_one_stays(
    leader: Leadership,
) -> None:
    await leader.declare(scoring_endpoint())
    keys = leader.plane.endpoints.keys("iris")
    broken = [{"name": "blue", "replica": {"entryScript": "/score.py"}}]
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": broken}})
    await leader.settle(2)
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "Invalid") and "entryScript" in message and "home/iris" in message
    assert leader.conditions()["Ready"][0] == "True" and leader.endpoint()["status"]["observedGeneration"] == 2
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-blue") is not None and len(leader.kubernetes.pods()) == 1
    assert leader.plane.endpoints.keys("iris") == keys and "Invalid" in reasons(leader)
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [image()]}})
    await leader.settle(2)
    assert leader.conditions()["Degraded"][0] == "False"


async def test_every_fault_of_an_endpoint_that_never_ran_is_a_condition(leader: Leadership) -> None:
    wrong = [image("blue", trafficPercentile=70), image("green", trafficPercentile=70, isDefault=True)]
    await leader.declare(scoring_endpoint(versions=[*wrong, {"name": "x-1", "replica": {"command": ["x"]}}]))
    await leader.settle(1)
    assert leader.conditions()["Degraded"][:2] == ("True", "Invalid")
    assert leader.conditions()["Ready"][0] == "False" and leader.kubernetes.all(DEPLOYMENTS) == []
    with pytest.raises(NoSuchEndpoint, match="repair it with kubectl"):
        await leader.plane.endpoints.get("iris")


async def test_of_one_name_in_two_namespaces_the_older_counts_until_it_is_gone() -> None:
    leader = await Leadership(namespaces=()).start()
    await leader.declare(scoring_endpoint(namespace="a"))
    await leader.declare(scoring_endpoint(namespace="b", versions=[image("green")]), 3)
    assert leader.conditions("iris", "b")["Degraded"] == ("True", "NameTaken", "name is taken by a/iris")
    assert {each["metadata"]["namespace"] for each in leader.kubernetes.all(DEPLOYMENTS)} == {"a"}
    leader.kubernetes.take_away(ENDPOINTS, "iris", "a")
    await leader.settle(3)
    assert {each["metadata"]["namespace"] for each in leader.kubernetes.all(DEPLOYMENTS)} == {"b"}
    assert leader.conditions("iris", "b")["Degraded"][0] == "False"
    await leader.stop()


async def test_a_deleted_endpoint_drains_then_its_workload_goes_and_the_object_last(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    (pod,) = leader.kubernetes.pods()
    await leader.kubernetes.delete("/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/iris")
    await leader.settle(3)
    with pytest.raises(NoSuchEndpoint):
        await leader.plane.endpoints.get("iris")
    annotations = leader.kubernetes.must_find(PODS, pod)["metadata"]["annotations"]
    assert annotations["scorefront.io/draining"] == "true"
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-blue") is not None and leader.has_endpoint()
    leader.plane.reports.replica_drained(next(iter(leader.routers.replicas)))
    await leader.settle(3)
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-blue") is None and not leader.has_endpoint()


async def test_routers_that_were_done_with_a_deleted_endpoint_before_it_was_seen_here_are_not_waited_for(
    leader: Leadership,
) -> None:
    await leader.declare(scoring_endpoint())
    replica_id = next(iter(leader.routers.replicas))
    await leader.provider.drained(replica_id)
    await leader.kubernetes.delete("/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/iris")
    await leader.settle(3)
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-blue") is None and not leader.has_endpoint()


async def test_a_deleted_endpoint_goes_when_its_requests_have_had_their_time(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(scoringTimeoutMs=30_000)]))
    await leader.kubernetes.delete("/apis/scorefront.io/v1alpha1/namespaces/home/scoringendpoints/iris")
    await leader.settle(25)
    assert leader.has_endpoint()
    await leader.settle(15)
    assert not leader.has_endpoint() and leader.kubernetes.all(DEPLOYMENTS) == []


async def test_a_version_that_is_dropped_drains_before_its_workload_goes(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=TWO))
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [image("blue")]}})
    await leader.settle(1)
    (green,) = [each for each in leader.routers.replicas.values() if each.version == "green"]
    assert green.state is ReplicaState.DRAINING
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-green") is not None
    leader.plane.reports.replica_drained(green.id)
    await leader.settle(1)
    assert [each["metadata"]["name"] for each in leader.kubernetes.all(DEPLOYMENTS)] == ["iris-blue"]


async def test_a_new_leader_continues_the_removals_of_the_old_one(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=TWO))
    await leader.stop()
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"versions": [image("blue")]}})
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(75)
    assert [each["metadata"]["name"] for each in after.kubernetes.all(DEPLOYMENTS)] == ["iris-blue"]
    await after.stop()


# ---- by REST


async def test_a_declaration_by_rest_is_an_object_and_its_echo_changes_nothing(leader: Leadership) -> None:
    view, outcome = await leader.plane.endpoints.apply(document())
    applied = len(leader.kubernetes.writes("apply"))
    await leader.settle(3)
    assert outcome == "created" and view["metadata"]["name"] == "iris"
    assert leader.endpoint()["metadata"]["finalizers"] == ["scorefront.io/drain"]
    assert len(leader.kubernetes.writes("apply")) == applied == 1
    assert leader.endpoint()["status"]["keys"]


async def test_a_split_set_by_rest_is_in_the_object(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=TWO))
    await leader.plane.endpoints.set_traffic("iris", {"green": 30}, None, None)
    await leader.settle(2)
    found = {each["name"]: each for each in leader.endpoint()["spec"]["versions"]}
    assert found["green"]["trafficPercentile"] == 30
    assert leader.endpoint()["metadata"]["generation"] == 2
    assert (await leader.plane.endpoints.get("iris"))["status"]["versions"]["green"]["share"] == 0.3


async def test_a_restart_changes_the_pod_template_of_the_named_version_and_lasts(leader: Leadership) -> None:
    def marks() -> list[str | None]:
        found = [leader.kubernetes.must_find(DEPLOYMENTS, f"iris-{name}") for name in ("blue", "green")]
        templates = [each["spec"]["template"]["metadata"].get("annotations") or {} for each in found]
        return [each.get("scorefront.io/restarted-at") for each in templates]

    await leader.declare(scoring_endpoint(versions=TWO))
    assert marks() == [None, None]
    await leader.plane.endpoints.restart("iris", "blue")
    first, untouched = marks()
    assert first and untouched is None
    await leader.settle(3)
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"description": "applied again"}})
    await leader.settle(3)
    assert marks() == [first, None]
    await leader.plane.endpoints.restart("iris", None)
    second, other = marks()
    assert second not in (first, None) and other
    assert "Restarted" in reasons(leader)


async def test_a_concurrent_change_by_kubectl_is_not_undone_by_rest(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=TWO))
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"description": "newer"}})
    with pytest.raises(ConflictingChange):
        await leader.plane.endpoints.set_traffic("iris", {"green": 30}, None, None)
    await leader.settle(1)
    assert leader.endpoint()["spec"]["description"] == "newer"
    await leader.plane.endpoints.set_traffic("iris", {"green": 30}, None, None)
    assert leader.endpoint()["spec"]["description"] == "newer"


async def test_a_refused_api_call_has_changed_nothing(leader: Leadership) -> None:
    leader.kubernetes.refusal = lambda verb, where: (
        RequestRefused("denied by a policy", 422, "Invalid")
        if verb == "create" and "scoringendpoints" in where
        else None
    )
    with pytest.raises(InvalidCall, match="denied by a policy"):
        await leader.plane.endpoints.apply(document())
    assert await leader.plane.endpoints.views() == []


async def test_while_the_api_is_away_rest_says_so_and_nothing_changes(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = leader.plane.endpoints.keys("iris")
    leader.kubernetes.go_away()
    for change in (
        leader.plane.endpoints.set_traffic("iris", {"blue": 5}, None, None),
        leader.plane.endpoints.delete("iris"),
        leader.plane.endpoints.regenerate("iris", KeyType.PRIMARY),
    ):
        with pytest.raises(StoreUnavailable):
            await change
    assert leader.plane.endpoints.keys("iris") == before


async def test_an_endpoint_that_only_one_machine_can_run_is_refused(leader: Leadership) -> None:
    with pytest.raises(InvalidManifest, match="one machine only"):
        await leader.plane.endpoints.apply(document(versions=[{"name": "blue", "replica": {"command": ["x"]}}]))


async def test_an_endpoint_deleted_by_rest_is_gone_at_once_and_its_name_is_free_when_drained(
    leader: Leadership,
) -> None:
    await leader.declare(scoring_endpoint())
    await leader.plane.endpoints.delete("iris")
    with pytest.raises(NoSuchEndpoint):
        await leader.plane.endpoints.get("iris")
    await leader.settle(3)
    with pytest.raises(ConflictingChange, match="is being deleted"):
        await leader.plane.endpoints.apply(document())
    leader.plane.reports.replica_drained(next(iter(leader.routers.replicas)))
    await leader.settle(3)
    await leader.plane.endpoints.apply(document())


async def test_an_endpoint_of_an_unwatched_namespace_is_refused(leader: Leadership) -> None:
    with pytest.raises(ConflictingChange, match="namespace elsewhere is not watched"):
        await leader.plane.endpoints.apply(scoring_endpoint(namespace="elsewhere"))


# ---- keys


async def test_a_regenerated_key_is_in_the_status_when_the_call_returns(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = leader.plane.endpoints.keys("iris")
    after = await leader.plane.endpoints.regenerate("iris", KeyType.PRIMARY)
    digests = leader.endpoint()["status"]["keys"]
    assert digests["primarySha256"] == hashlib.sha256(after.primary.encode()).hexdigest()
    await leader.settle(5)
    assert leader.endpoint()["status"]["keys"] == digests
    assert leader.plane.endpoints.keys("iris") == after != before and "KeyRegenerated" in reasons(leader)


async def test_keys_that_a_user_changes_are_followed(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    write_entry(leader, PRIMARY, SECONDARY)
    await leader.settle(65)
    assert leader.plane.endpoints.keys("iris").primary == PRIMARY
    assert leader.endpoint()["status"]["keys"]["primarySha256"] == hashlib.sha256(PRIMARY.encode()).hexdigest()


async def test_unusable_keys_are_a_condition_and_the_old_ones_stay(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = leader.plane.endpoints.keys("iris")
    write_entry(leader, "short", SECONDARY)
    await leader.settle(65)
    message = leader.conditions()["Degraded"][2]
    assert "primaryKey must have 32 to 256 characters, has 5" in message
    assert """patch secret scorefront-keys --type=merge -p '{"data":{"home.iris":null}}'""" in message
    assert leader.plane.endpoints.keys("iris") == before


async def test_keys_that_a_user_removes_are_drawn_anew(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    before = leader.plane.endpoints.keys("iris")
    leader.kubernetes.edit(SECRETS, "scorefront-keys", {"data": {"home.iris": None}})
    await leader.settle(65)
    after = leader.plane.endpoints.keys("iris")
    assert not {after.primary, after.secondary} & {before.primary, before.secondary}
    assert leader.endpoint()["status"]["keys"]["primarySha256"] == hashlib.sha256(after.primary.encode()).hexdigest()


async def test_an_endpoint_with_tokens_has_no_condition_about_keys(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    leader.kubernetes.edit(ENDPOINTS, "iris", {"spec": {"tokenAuthEnabled": True}})
    await leader.settle(2)
    assert "keys" not in leader.endpoint()["status"]
    assert leader.plane.endpoints.token("iris")


async def test_signing_keys_and_keys_survive_a_change_of_leader_and_routers_trust_them(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    trust, keys = leader.plane.snapshot().trust, leader.plane.endpoints.keys("iris")
    assert trust.keys[0].kid in leader.kubernetes.must_find(CONFIGMAPS, "scorefront-trust")["data"]["trust.json"]
    await leader.stop()
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    assert after.plane.snapshot().trust == trust and after.plane.endpoints.keys("iris") == keys
    await after.stop()


# ---- workloads


async def test_fields_that_others_own_are_reported_and_left_to_them(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    theirs = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]["template"]["spec"]["containers"]
    theirs[0]["image"] = "registry/model:theirs"
    leader.kubernetes.edit(DEPLOYMENTS, "iris-blue", {"spec": {"template": {"spec": {"containers": theirs}}}})
    await leader.settle(5)
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "FieldConflict") and "kubectl-edit" in message
    found = leader.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]["template"]["spec"]["containers"]
    assert found[0]["image"] == "registry/model:theirs"
    applies = len(leader.kubernetes.writes("apply"))
    await leader.settle(30)
    assert len(leader.kubernetes.writes("apply")) == applies, "it is not fought over"


async def test_a_deleted_workload_is_created_again(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    leader.kubernetes.take_away(DEPLOYMENTS, "iris-blue")
    await leader.settle(5)
    assert leader.kubernetes.find(DEPLOYMENTS, "iris-blue") is not None


def adopted(name: str = "theirs", kind: str = "Deployment") -> Object:
    return {"name": "blue", "replica": {"workloadRef": {"kind": kind, "name": name}, "port": 80}}


def theirs(name: str = "theirs", replicas: int = 4) -> Object:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "x", "image": "y"}]}}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


async def test_a_workload_that_is_adopted_keeps_its_number_and_is_found_by_its_selector(leader: Leadership) -> None:
    leader.kubernetes.put(DEPLOYMENTS, theirs())
    await leader.settle(0.1)
    await leader.declare(scoring_endpoint(versions=[adopted()]))
    assert leader.kubernetes.must_find(DEPLOYMENTS, "theirs")["spec"]["replicas"] == 4
    assert {each.port for each in leader.routers.replicas.values()} == {80} and len(leader.routers.replicas) == 4
    (version,) = leader.endpoint()["status"]["versions"]
    assert (version["selector"], version["desired"]) == ("app=theirs", 4)
    await leader.plane.endpoints.delete("iris")
    await leader.settle(3)
    assert not leader.has_endpoint() and len(leader.kubernetes.pods()) == 4


async def test_a_missing_workload_is_a_condition_and_found_when_it_comes(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[adopted()]), 2)
    assert "there is no Deployment home/theirs" in leader.conditions()["Degraded"][2]
    leader.kubernetes.put(DEPLOYMENTS, theirs(replicas=2))
    await leader.settle(8)
    assert leader.conditions()["Degraded"][0] == "False" and len(leader.routers.replicas) == 2


async def test_an_issuer_at_an_address_that_is_never_allowed_is_invalid(leader: Leadership) -> None:
    issuer = {"issuer": "https://login.example", "audience": "x", "jwksUri": "https://169.254.169.254/latest/meta-data"}
    await leader.declare(scoring_endpoint(tokenAuthEnabled=True, tokenIssuers=[issuer]))
    status, reason, message = leader.conditions()["Degraded"]
    assert (status, reason) == ("True", "Invalid")
    assert "spec.tokenIssuers[0].jwksUri" in message and "never allowed: it is link-local" in message


async def test_static_replicas_are_published_and_withdrawn(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[{"name": "blue", "replica": {"static": ["10.9.0.1:9400"]}}]))
    assert leader.endpoint()["status"]["ready"] == "1/1"
    await leader.plane.endpoints.delete("iris")
    await leader.settle(2)
    assert leader.routers.replicas == {} and not leader.has_endpoint()


async def test_the_last_lines_of_a_crash_loop_are_those_before_it_ended(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint())
    (pod,) = leader.kubernetes.pods()
    leader.kubernetes.logs[pod, False] = "one\ntwo\nthree\n"
    leader.kubernetes.logs[pod, True] = "Traceback\n"
    assert [line.line for line in await leader.plane.endpoints.logs("iris", "blue", 2)] == ["two", "three"]
    waiting = {"name": "model", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}
    leader.kubernetes.edit(PODS, pod, {"status": {"containerStatuses": [waiting]}})
    await leader.settle(0.1)
    assert [line.line for line in await leader.plane.endpoints.logs("iris", "blue", 2)] == ["Traceback"]


async def test_numbers_that_a_leader_finds_are_those_that_were_asked_for(leader: Leadership) -> None:
    await leader.declare(scoring_endpoint(versions=[image(minimum=2)]))
    await leader.provider.scale(VersionKey("iris", "blue"), 5)
    await leader.stop()
    after = await Leadership(leader.kubernetes, leader.clock, fence=2).start()
    await after.settle(2)
    assert after.kubernetes.must_find(DEPLOYMENTS, "iris-blue")["spec"]["replicas"] == 5
    assert (await after.plane.endpoints.get("iris"))["status"]["versions"]["blue"]["desired"] == 5
    declared = after.plane.declared("iris")
    assert declared is not None and after.provider.status.number(BLUE, declared.endpoint.versions[0]) == 5
    await after.stop()
