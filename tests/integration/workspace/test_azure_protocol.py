"""The Azure ML v1 protocol: the calls of azureml-core, in the order in which it makes them."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workspace.azure_client import ARTIFACTS, MMS, SCOPE, AzureBench, archive
from tests.unit.workspace.azureml.payloads import aks, endpoint
from workspace.azureml.block_uploads import MAX_BLOCK_BYTES

AKS_KEYS = {
    *("computeType", "createdTime", "description", "kvTags", "name", "properties", "appInsightsEnabled", "authEnabled"),
    *("autoScaler", "computeName", "containerResourceRequirements", "dataCollection", "numReplicas", "scoringUri"),
    *("maxConcurrentRequestsPerContainer", "maxQueueWaitMs", "scoringTimeoutMs", "livenessProbeRequirements"),
    *("aadAuthEnabled", "state", "error", "deploymentStatus", "models", "environmentImageRequest"),
}
"""Keys without which the SDK raises an exception, or that it reads."""


@pytest.fixture
async def azure(tmp_path: Path) -> AsyncIterator[AzureBench]:
    one = await AzureBench(tmp_path).start()
    yield one
    await one.stop()


async def test_the_workspace_and_its_services_are_found(azure: AzureBench) -> None:
    workspace = await azure.call("GET", f"{SCOPE}?api-version=2022-05-01")
    found = await azure.call("GET", "/azureml/discovery")
    assert workspace["properties"]["discoveryUrl"].endswith("/azureml/discovery")
    assert workspace["properties"]["workspaceId"] == found["workspace"]["workspaceId"]
    assert {found[name] for name in ("api", "modelmanagement", "history", "artifacts")} == {
        workspace["properties"]["discoveryUrl"].removesuffix("/azureml/discovery")
    }


@pytest.mark.parametrize(("name", "status"), [("myaks", 200), ("A1b", 200), ("ab", 400), ("a" * 25, 400), ("1ab", 400)])
async def test_every_valid_name_is_a_compute_target(azure: AzureBench, name: str, status: int) -> None:
    found = await azure.call("GET", f"/rp/workspaces{SCOPE}/computes/{name}", status)
    if status == 200:
        assert found["properties"]["computeType"] == "AKS"
        assert {"agentVmSize", "agentCount", "clusterPurpose", "clusterFqdn", "systemServices"} <= set(
            found["properties"]["properties"]
        )
        attached = await azure.client.put(f"{SCOPE}/computes/{name}", json={"properties": {}})
        assert attached.headers["Azure-AsyncOperation"]
    else:
        assert "3 to 24" in found["message"]


async def test_a_model_is_registered_listed_downloaded_changed_and_deleted(azure: AzureBench) -> None:
    files = {"net/a.txt": b"a", "net/sub/b.txt": b"b", "other.txt": b"c"}
    model = await azure.register("iris", files, "net")
    assert (model["id"], model["version"], model["kvTags"]) == ("iris:1", 1, {"a": "b"})
    assert sorted(file.path for file in azure.models.get("iris", 1).files) == ["net/a.txt", "net/sub/b.txt"]
    await azure.register("iris", {"model.pkl": b"2"}, "model.pkl")
    listed = await azure.mms("GET", "/models?name=iris&count=1&tags=a=b")
    assert [each["id"] for each in listed["value"]] == ["iris:2"]
    following = await azure.call("GET", listed["nextLink"].split("/", 3)[3].join(("/", "")))
    assert [each["id"] for each in following["value"]] == ["iris:1"]
    asset = await azure.mms("GET", f"/assets/{model['url'].removeprefix('aml://asset/')}")
    addresses = await azure.call("GET", f"{ARTIFACTS}/prefix/contentinfo/{asset['artifacts'][0]['prefix']}")
    content = [
        await azure.client.get(each["contentUri"].split("/", 3)[3].join(("/", ""))) for each in addresses["value"]
    ]
    assert [await each.read() for each in content] == [b"a", b"b"]
    patch = [
        {"op": "replace", "path": "/kvTags", "value": {"x": "y"}},
        {"op": "add", "path": "/properties/p", "value": "q"},
    ]
    changed = await azure.mms("PATCH", "/models/iris:1", json=patch)
    assert (changed["kvTags"], changed["properties"]) == ({"x": "y"}, {"p": "q"})
    await azure.mms("DELETE", "/models/iris:1")
    error = await azure.mms("GET", "/models/iris:1", 404)
    assert "iris" in error["message"]


async def test_a_service_is_deployed_scored_changed_and_deleted(azure: AzureBench) -> None:
    await azure.register("iris", {"model.pkl": b"1"}, "model.pkl")
    assert await azure.mms("POST", "/services/validate/name/myservice", json={}) == {}
    payload = aks(
        environmentImageRequest=await azure.image({"score.py": b"import help", "help.py": b""}, ("iris:1",)),
        containerResourceRequirements={"cpu": 1, "memoryInGB": 1},
    )
    check = {"type": "Create", "serviceName": "myservice", "createRequest": payload}
    assert await azure.mms("POST", "/services/validate", json=check) == {}
    response = await azure.client.post(f"{MMS}/services", json=payload)
    created = await response.json()
    assert (response.status, created["state"], created["name"]) == (202, "Transitioning", "myservice")
    operation = await azure.ended(response)
    assert operation["state"] == "Succeeded"
    service = await azure.mms("GET", "/services/myservice?expand=true")
    assert set(service) >= AKS_KEYS
    assert (service["state"], service["computeName"], service["error"]) == ("Healthy", "myaks", None)
    assert service["scoringUri"].endswith("/api/v1/service/myservice/score")
    assert [model["id"] for model in service["models"]] == ["iris:1"]
    replica = azure.deployments.document("myservice")["spec"]["versions"][0]["replica"]
    assert Path(replica["entryScript"]).relative_to(replica["sourceDirectory"]) == Path("score.py")
    assert (Path(replica["sourceDirectory"]) / "help.py").exists()
    assert (Path(replica["modelDir"]) / "model.pkl").exists()
    taken = await azure.mms("POST", "/services/validate/name/myservice", json={})
    assert "already exists" in taken["error"]["message"]
    assert (await azure.mms("POST", "/services", 409, json=payload))["code"] == "ServiceExists"
    done = await azure.patch("myservice", {"op": "replace", "path": "/scoringTimeoutMs", "value": 1234})
    assert done["state"] == "Succeeded"
    assert (await azure.mms("GET", "/services/myservice"))["scoringTimeoutMs"] == 1234
    assert await azure.mms("DELETE", "/services/myservice") == {}
    await azure.mms("GET", "/services/myservice", 404)
    await azure.mms("DELETE", "/services/myservice", 204)


async def test_the_owners_endpoint_with_versions(azure: AzureBench) -> None:
    payload = endpoint(trafficPercentile=20, environmentImageRequest=await azure.image())
    assert (await azure.deploy(payload))["state"] == "Succeeded"
    second = aks("versionb", trafficPercentile=10, environmentImageRequest=await azure.image())
    await azure.patch("myendpoint", {"op": "add", "path": "/versions/versionb", "value": second})
    found = await azure.mms("GET", "/services/myendpoint")
    assert found["computeType"] == "AKSENDPOINT"
    assert {name: each["trafficPercentile"] for name, each in found["versions"].items()} == {
        "versiona": 20,
        "versionb": 10,
    }
    for version in found["versions"].values():
        assert set(version) >= AKS_KEYS
        assert (version["computeType"], version["computeName"], version["state"]) == ("AKS", "myaks", "Healthy")
    await azure.patch(
        "myendpoint",
        {"op": "replace", "path": "/versions/versiona/isDefault", "value": False},
        {"op": "replace", "path": "/versions/versionb/isDefault", "value": True},
        {"op": "replace", "path": "/versions/versionb/type", "value": "Control"},
        {"op": "replace", "path": "/versions/versionb/trafficPercentile", "value": 40},
    )
    declared = azure.deployments.bench.plane.endpoints.declared("myendpoint")
    assert declared is not None
    shares = {each.name: each.share for each in declared.endpoint.versions}
    assert shares == {"versiona": 0.2, "versionb": 0.8}
    await azure.patch("myendpoint", {"op": "remove", "path": "/versions/versionb"})
    assert list((await azure.mms("GET", "/services/myendpoint"))["versions"]) == ["versiona"]


async def test_services_are_listed_by_filters(azure: AzureBench) -> None:
    await azure.register("iris", {"model.pkl": b"1"}, "model.pkl")
    await azure.service("first", kvTags={"team": "a"})
    payload = aks("second", environmentImageRequest=await azure.image(models=("iris:1",)), properties={"p": "q"})
    await azure.deploy(payload)
    await azure.deploy(endpoint("third", environmentImageRequest=await azure.image()))

    async def names(query: str) -> list[str]:
        return [each["name"] for each in (await azure.mms("GET", f"/services?expand=true{query}"))["value"]]

    assert await names("") == ["first", "second", "third"]
    assert await names("&computeType=AKS") == ["first", "second"]
    assert await names("&computeType=AKSENDPOINT") == ["third"]
    assert await names("&tags=team=a") == ["first"]
    assert await names("&tags=team=b") == []
    assert await names("&properties=p") == ["second"]
    assert await names("&modelName=iris") == ["second"]
    assert await names("&modelId=iris:2") == []
    assert await names("&imageId=x") == []


async def test_keys_and_tokens(azure: AzureBench) -> None:
    keys = {"primaryKey": "p" * 20, "secondaryKey": "s" * 20}
    await azure.service(keys=keys)
    assert await azure.mms("POST", "/services/myservice/listkeys") == keys
    response = await azure.client.post(
        f"{MMS}/services/myservice/regenerateKeys", json={"keyType": "Primary", "keyValue": None}
    )
    operation = await azure.ended(response)
    assert (response.status, operation["state"]) == (202, "Succeeded")
    fresh = await azure.mms("POST", "/services/myservice/listkeys")
    assert fresh["primaryKey"] != keys["primaryKey"]
    assert fresh["secondaryKey"] == keys["secondaryKey"]
    given = {"keyType": "Secondary", "keyValue": "t" * 20}
    assert (await azure.client.post(f"{MMS}/services/myservice/regenerateKeys", json=given)).status == 202
    assert (await azure.mms("POST", "/services/myservice/listkeys"))["secondaryKey"] == "t" * 20
    refused = await azure.mms("POST", "/services/myservice/regenerateKeys", 400, json={"keyType": "third"})
    assert "keyType" in refused["message"]
    assert (await azure.mms("POST", "/services/myservice/token", 409))["statusCode"] == 409
    await azure.patch(
        "myservice",
        {"op": "replace", "path": "/authEnabled", "value": False},
        {"op": "replace", "path": "/aadAuthEnabled", "value": True},
    )
    token = await azure.mms("POST", "/services/myservice/token")
    assert set(token) == {"accessToken", "tokenType", "refreshAfter", "expiryOn"}
    service = await azure.mms("GET", "/services/myservice")
    assert (service["authEnabled"], service["aadAuthEnabled"]) == (False, True)


async def test_a_failed_deployment_shows_its_step_and_reason_until_it_is_deleted(azure: AzureBench) -> None:
    azure.deployments.bench.provider.starts_ready = False
    image = await azure.image()
    response = await azure.client.post(f"{MMS}/services", json=aks(environmentImageRequest=image))
    identifier = response.headers["Operation-Location"].rsplit("/", 1)[1]
    await azure.deployments.reaches(identifier, "ready")
    assert (await azure.mms("GET", "/services/myservice"))["state"] == "Transitioning"
    await azure.deployments.service.cancel(identifier)
    operation = await azure.ended(response)
    assert operation["state"] == "Cancelled"
    assert operation["error"]["message"].startswith("ready: ")
    service = await azure.mms("GET", "/services/myservice")
    assert (service["state"], service["error"]["code"]) == ("Failed", "Cancelled")
    logs = await azure.mms("GET", "/services/myservice/logs?tail=5000&init=False")
    assert "Cancelled" in logs["content"]
    assert (await azure.mms("POST", "/services/myservice/listkeys", 409))["code"] == "ServiceNotReady"
    await azure.mms("DELETE", "/services/myservice")
    await azure.mms("GET", "/services/myservice", 404)


async def test_the_log_of_an_operation_is_streamed_from_an_offset(azure: AzureBench) -> None:
    operation = await azure.deploy(aks(environmentImageRequest=await azure.image()))
    whole = await azure.mms("GET", f"/operations/{operation['id']}?offset=0")
    text = whole["streamingOperationLog"]
    assert all(len(each.split("|")) == 2 for each in text.split("#"))
    rest = await azure.mms("GET", f"/operations/{operation['id']}?offset=20")
    assert rest["streamingOperationLog"] == text[20:]
    assert "streamingOperationLog" not in await azure.mms("GET", f"/operations/{operation['id']}?offset={len(text)}")
    assert "streamingOperationLog" not in operation
    assert (await azure.mms("GET", "/operations/none", 404))["statusCode"] == 404


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"scoringTimeoutMs": 400_000}, "scoringTimeoutMs"),
        ({"autoScaler": {"autoscaleEnabled": True, "targetUtilization": 101}}, "targetUtilization"),
        ({"environmentImageRequest": {"assets": []}}, "entry script"),
    ],
)
async def test_a_wrong_payload_is_refused_before_and_at_the_request(
    azure: AzureBench, change: dict[str, Any], word: str
) -> None:
    payload = {**aks(environmentImageRequest=await azure.image()), **change}
    checked = await azure.mms("POST", "/services/validate", json={"type": "Create", "createRequest": payload})
    assert word in checked["error"]["message"]
    assert word in (await azure.mms("POST", "/services", 400, json=payload))["message"]
    await azure.mms("GET", "/services/myservice", 404)


async def test_unknown_models_scripts_and_uploads_are_named(azure: AzureBench) -> None:
    payload = aks(environmentImageRequest=await azure.image(models=("none:1",)))
    assert "none" in (await azure.mms("POST", "/services", 404, json=payload))["message"]
    image = await azure.image({"main.py": b""})
    refused = await azure.mms("POST", "/services", 400, json=aks(environmentImageRequest=image))
    assert refused["code"] == "EntryScriptNotFound"
    image["assets"][0]["url"] = "aml://artifact/LocalUpload/none/x.tar.gz"
    await azure.mms("POST", "/services", 404, json=aks(environmentImageRequest=image))


async def test_percentages_above_a_hundred_are_refused(azure: AzureBench) -> None:
    await azure.deploy(endpoint(trafficPercentile=60, environmentImageRequest=await azure.image()))
    value = aks("versionb", trafficPercentile=50, environmentImageRequest=await azure.image())
    patch = [{"op": "add", "path": "/versions/versionb", "value": value}]
    refused = await azure.mms("PATCH", "/services/myendpoint", 400, json=patch)
    assert "100" in refused["message"]


@pytest.mark.parametrize("entry", ["../evil.py", "/etc/evil.py", "src/../../evil.py"])
async def test_an_archive_cannot_leave_its_folder(azure: AzureBench, entry: str) -> None:
    await azure.upload(
        "evil", "e.tar.gz", archive({entry: b"x"}, folder="") if entry[0] != "s" else archive({entry: b""})
    )
    image = await azure.image()
    image["assets"][0]["url"] = "aml://artifact/LocalUpload/evil/e.tar.gz"
    refused = await azure.mms("POST", "/services", 400, json=aks(environmentImageRequest=image))
    assert "path of an entry" in refused["message"]


@pytest.mark.parametrize("path", ["../up", "a/../../b", "a\\b", "/abs", "a//b"])
async def test_an_artifact_cannot_leave_its_container(azure: AzureBench, path: str) -> None:
    body = {"paths": [{"path": path}]}
    await azure.call("POST", f"{ARTIFACTS}/batch/metadata/LocalUpload/c", 400, json=body)


async def test_an_upload_by_blocks_is_whole_or_nothing(azure: AzureBench) -> None:
    address = await azure.address("c", "big.bin")
    assert (await azure.upload_by_blocks(address, [b"one", b"two"], order=[1, 0])).status == 400
    await azure.call("GET", f"{ARTIFACTS}/metadata/LocalUpload/c/big.bin", 404)
    assert (await azure.upload_by_blocks(address, [b"one", b"two"])).status == 201
    found = await azure.artifacts.get("LocalUpload", "c", "big.bin")
    with azure.store.open_blob(found.sha256) as file:
        assert file.read() == b"onetwo"
    query = {"comp": "block", "blockid": "MQ=="}
    again = [await azure.client.put(address, params=query, data=b"same") for _ in range(2)]
    assert [each.status for each in again] == [201, 201]
    assert (await azure.client.put(address, params=query, data=b"other")).status == 400
    assert (await azure.client.put(address, params=query, data=io.BytesIO(b"x" * (MAX_BLOCK_BYTES + 1)))).status == 413
    assert (await azure.client.put(address, params={"comp": "blocklist"}, data=b"<Latest>Mg==</Latest>")).status == 400


async def test_an_address_is_good_for_one_artifact_one_right_and_a_time(azure: AzureBench) -> None:
    address = await azure.address("c", "a.txt")
    assert (await azure.client.put(address.replace("a.txt", "b.txt"), data=b"x")).status == 403
    assert (await azure.client.put(address.partition("?")[0], data=b"x")).status == 403
    assert (await azure.client.put(address.replace("sp=cw", "sp=r"), data=b"x")).status == 403
    assert (await azure.client.put(address, data=b"x")).status == 201
    assert (await azure.client.get(address)).status == 403
    await azure.deployments.bench.clock.advance(25 * 3600)
    assert (await azure.client.put(address, data=b"x")).status == 403


async def test_environments_are_registered_and_found(azure: AzureBench) -> None:
    base = f"/environment/v1.0{SCOPE}/environments"
    conda = {"dependencies": ["python=3.11", {"pip": ["numpy==2.0"]}], "channels": ["conda-forge"]}
    body = {"Name": "my env", "python": {"condaDependencies": conda}, "EnvironmentVariables": {"A": "b"}, "Docker": {}}
    refused = await azure.call("PUT", f"{base}/my%20env", 400, json=body)
    assert "name" in refused["message"]
    first = await azure.call("PUT", f"{base}/myenv", json=body)
    assert (first["name"], first["version"], first["environmentVariables"]) == ("myenv", "1", {"A": "b"})
    assert first["python"]["condaDependencies"] == conda
    assert (await azure.call("PUT", f"{base}/myenv", json=body))["version"] == "1"
    named = await azure.call("PUT", f"{base}/myenv/versions/7", json={**body, "EnvironmentVariables": {"A": "c"}})
    assert named["version"] == "7"
    assert (await azure.call("GET", f"{base}/myenv"))["version"] == "7"
    assert (await azure.call("GET", f"{base}/myenv/versions/1"))["version"] == "1"
    assert [each["version"] for each in (await azure.call("GET", f"{base}/"))["value"]] == ["7"]
    assert (await azure.call("GET", f"{base}/none", 404))["statusCode"] == 404


async def test_requests_of_pages_and_foreign_hosts_are_refused(azure: AzureBench) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        assert (await azure.client.get(f"{MMS}/services", headers=headers)).status == 403
