"""Models and services over a scripted control plane."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scorefront.sdk import (
    AksCompute,
    AksEndpoint,
    AksWebservice,
    Environment,
    InferenceConfig,
    Model,
    Webservice,
    Workspace,
)
from scorefront.sdk.exceptions import (
    ComputeTargetException,
    EnvironmentNotFoundException,
    ModelNotFoundException,
    UserErrorException,
    WebserviceException,
    WorkspaceException,
)
from scorefront.sdk.service_settings import PLACES
from tests.fakes.http_server import Answer, ScriptedServer, answer_json, scripted_server

SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
MANAGEMENT = f"/modelmanagement/v1.0{SCOPE}"
NAMES = {"subscriptionId": "s", "resourceGroup": "g", "workspaceName": "w", "workspaceId": "i", "location": "local"}
MODEL = {
    **{"id": "iris:1", "name": "iris", "version": 1, "created": 1.0, "modified": 2.0, "description": ""},
    **{"tags": {"a": "b"}, "properties": {}, "framework": "", "frameworkVersion": "", "sizeBytes": 3, "fileCount": 1},
}
ANNOUNCED = {"operation-location": f"http://x{MANAGEMENT}/operations/op1"}


def service(control: ScriptedServer, **more: Any) -> dict[str, Any]:
    return {
        **{"name": "iris", "computeType": "AKS", "state": "Healthy", "authEnabled": True, "aadAuthEnabled": False},
        **{"kvTags": {"a": "b"}, "properties": {}, "computeName": "myaks", "createdTime": "2026-01-01T00:00:00+00:00"},
        **{"scoringUri": f"{control.url}/score", "autoScaler": {"maxReplicas": 10}, "description": ""},
        **{"containerResourceRequirements": {"cpu": 0.1, "memoryInGB": 0.5, "cpuLimit": None}},
        **more,
    }


def operation(state: str = "Succeeded", **more: Any) -> dict[str, Any]:
    steps = [{"step": "validate", "began": 10.0, "ended": 10.5, "note": ""}]
    return {
        **{"id": "op1", "kind": "Create", "endpoint": "iris", "version": "iris", "state": state, "step": "ready"},
        **{"created": 10.0, "ended": 12.0, "error": None, "steps": steps, **more},
    }


@pytest.fixture
def control() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        server.on("GET /azureml/discovery", answer_json({"workspace": NAMES}))
        server.on(f"GET {MANAGEMENT}/services/iris", answer_json(service(server)))
        server.on("GET /api/v1/operations/op1", answer_json(operation()))
        yield server


@pytest.fixture
def workspace(control: ScriptedServer) -> Workspace:
    return Workspace(control.url, token="secret")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "score.py").write_text("def init(): ...")
    return tmp_path


def last(control: ScriptedServer, method: str) -> Any:
    return next(asked for asked in reversed(control.asked) if asked.method == method)


def test_every_request_carries_the_token(workspace: Workspace, control: ScriptedServer) -> None:
    Webservice(workspace, "iris")
    assert {asked.headers["authorization"] for asked in control.asked} == {"Bearer secret"}
    assert workspace.name == "w" and "secret" not in repr(workspace)


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "ftp://a", "http://", "http://a/path", "unix:", 7])
def test_invalid_urls_are_refused(url: Any) -> None:
    with pytest.raises(UserErrorException, match="url: must be"):
        Workspace(url)


def test_a_control_port_without_a_workspace_is_refused(control: ScriptedServer) -> None:
    control.on("GET /azureml/discovery", answer_json({"api": "x"}))
    with pytest.raises(WorkspaceException, match="is not the control port of a scorefront with a workspace"):
        Workspace(control.url)


def test_a_refused_token_names_the_remedy(control: ScriptedServer) -> None:
    control.on("GET /azureml/discovery", answer_json({"error": {"code": "Unauthorized", "message": "no"}}, 401))
    with pytest.raises(WorkspaceException, match="SCOREFRONT_TOKEN"):
        Workspace(control.url)


def test_a_config_file_names_the_workspace(control: ScriptedServer, tmp_path: Path) -> None:
    Workspace(control.url).write_config(tmp_path)
    assert Workspace.from_config(tmp_path).url == control.url
    with pytest.raises(WorkspaceException, match="path"):
        Workspace.from_config(tmp_path / "none")


def test_a_folder_is_registered_under_its_name(workspace: Workspace, control: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "bert" / "sub").mkdir(parents=True)
    (tmp_path / "bert" / "sub" / "w.bin").write_bytes(b"123")
    digest = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    control.on(f"HEAD /api/v1/blobs/{digest}", Answer(404))
    control.on(f"PUT /api/v1/blobs/{digest}", answer_json({}))
    control.on("POST /api/v1/models", answer_json(MODEL, 201))
    model = Model.register(workspace, tmp_path / "bert", "iris", tags={"a": "b"}, model_framework="Onnx")
    assert last(control, "PUT").body == b"123"
    sent = last(control, "POST").document
    assert sent["files"] == [{"path": "bert/sub/w.bin", "sha256": digest}]
    assert (sent["name"], sent["tags"], sent["framework"]) == ("iris", {"a": "b"}, "Onnx")
    assert (model.id, model.version, model.tags) == ("iris:1", 1, {"a": "b"})


def test_content_that_is_there_is_not_sent_again(workspace: Workspace, control: ScriptedServer, source: Path) -> None:
    control.on("POST /api/v1/models", answer_json(MODEL, 201))
    control.on("HEAD /api/v1/blobs/*", Answer(200))
    Model.register(workspace, source / "score.py", "iris")
    assert not any(asked.method == "PUT" for asked in control.asked)


def test_a_missing_model_is_named(workspace: Workspace, control: ScriptedServer, tmp_path: Path) -> None:
    error = {"error": {"code": "ModelNotFound", "message": "there is no model none"}}
    control.on("GET /api/v1/models/none/latest", answer_json(error, 404))
    with pytest.raises(ModelNotFoundException, match="there is no model none"):
        Model(workspace, "none")


def test_a_download_is_checked(workspace: Workspace, control: ScriptedServer, tmp_path: Path) -> None:
    digest = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
    files = [{"path": "m/w.bin", "sha256": digest, "sizeBytes": 3}]
    control.on("GET /api/v1/models/iris/latest", answer_json({**MODEL, "files": files}))
    control.on("GET /api/v1/models/iris/1", answer_json({**MODEL, "files": files}))
    control.on("GET /api/v1/models/iris/1/files/m/w.bin", Answer(200, b"123"))
    model = Model(workspace, "iris")
    assert model.download(str(tmp_path)) == str(tmp_path / "m")
    assert (tmp_path / "m" / "w.bin").read_bytes() == b"123"
    with pytest.raises(UserErrorException, match="exist_ok=True replaces it"):
        model.download(str(tmp_path))
    control.on("GET /api/v1/models/iris/1/files/m/w.bin", Answer(200, b"124"))
    with pytest.raises(WebserviceException, match="another SHA-256"):
        model.download(str(tmp_path), exist_ok=True)
    assert [file.name for file in (tmp_path / "m").iterdir()] == ["w.bin"]


def test_a_model_with_a_path_outside_its_folder_is_refused(
    workspace: Workspace, control: ScriptedServer, tmp_path: Path
) -> None:
    files = [{"path": "../w.bin", "sha256": "0" * 64, "sizeBytes": 3}]
    for version in ("latest", "1"):
        control.on(f"GET /api/v1/models/iris/{version}", answer_json({**MODEL, "files": files}))
    with pytest.raises(UserErrorException, match="outside its folder"):
        Model(workspace, "iris").download(str(tmp_path / "inner"))


def deployable(control: ScriptedServer) -> None:
    found: dict[str, Any] = {
        "artifactContentInformation": {"source.zip": {"contentUri": "http://other:1/blob/a?sig=b"}}
    }
    found["artifacts"] = {"source.zip": {"artifactId": "LocalUpload/c/source.zip"}}
    control.on(f"POST /artifact/v2.0{SCOPE}/*", answer_json(found))
    control.on("PUT /blob/a", Answer(201))
    control.on(f"POST {MANAGEMENT}/services/validate/name/iris", answer_json({}))
    control.on(f"POST {MANAGEMENT}/services", Answer(202, b"{}", ANNOUNCED))


def test_a_deployment_sends_code_and_settings(workspace: Workspace, control: ScriptedServer, source: Path) -> None:
    deployable(control)
    config = InferenceConfig("score.py", source_directory=str(source))
    deployed = Model.deploy(workspace, "iris", ["iris:1"], config, deployment_target="myaks")
    sent = last(control, "POST").document
    assert sent["environmentImageRequest"] == {
        "driverProgram": None,
        "assets": [
            {
                "id": "source.zip",
                "url": "aml://artifact/LocalUpload/c/source.zip",
                "mimeType": "application/zip",
                "unpack": True,
            }
        ],
        "modelIds": ["iris:1"],
        "environment": {"environmentVariables": {"AZUREML_ENTRY_SCRIPT": "score.py"}},
    }
    assert (sent["name"], sent["computeName"], sent["overwrite"]) == ("iris", "myaks", False)
    assert isinstance(deployed, AksWebservice)
    deployed.wait_for_deployment()
    assert any(asked.path == "/api/v1/operations/op1" for asked in control.asked)


def test_an_existing_service_is_refused_before_the_upload(
    workspace: Workspace, control: ScriptedServer, source: Path
) -> None:
    taken = answer_json({"error": {"message": "Service iris with the same name already exists"}})
    control.on(f"POST {MANAGEMENT}/services/validate/name/iris", taken)
    config = InferenceConfig("score.py", source_directory=str(source))
    with pytest.raises(WebserviceException, match="already exists"):
        Model.deploy(workspace, "iris", ["iris:1"], config, deployment_target="myaks")
    assert not any("artifact" in asked.path for asked in control.asked)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"name": "Iris"}, "provided service name is invalid"),
        ({"deployment_target": None}, "Must have a deployment target"),
        ({"deployment_target": "a"}, "3 to 24"),
        ({"models": ["iris"]}, r"models\[0\]: must be a registered model"),
        ({"models": [f"m{n}:1" for n in range(1001)]}, "at most 1000"),
        ({"inference_config": "score.py"}, "inference_config: must be an InferenceConfig"),
        ({"deployment_config": "x"}, "provided deployment configuration must be"),
    ],
    ids=str,
)
def test_wrong_deployments_are_refused(
    workspace: Workspace, control: ScriptedServer, source: Path, change: dict[str, Any], rule: str
) -> None:
    deployable(control)
    arguments: dict[str, Any] = {
        **{"name": "iris", "models": ["iris:1"], "deployment_target": "myaks"},
        "inference_config": InferenceConfig("score.py", source_directory=str(source)),
        **change,
    }
    with pytest.raises(WebserviceException, match=rule):
        Model.deploy(workspace, **arguments)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"entry_script": "score.txt"}, "entry_script: must be a Python file"),
        ({"entry_script": "none.py"}, "no file 'none.py'"),
        ({"entry_script": "../score.py"}, "without .."),
        ({"entry_script": "score.py", "source_directory": "none"}, "source_directory: must be a folder"),
        ({"entry_script": "score.py", "environment": "x"}, "environment: must be an Environment"),
    ],
    ids=str,
)
def test_wrong_inference_configurations_are_refused(source: Path, arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(WebserviceException, match=rule):
        InferenceConfig(**{"source_directory": str(source), **arguments})


def test_a_failed_deployment_has_step_reason_and_log(workspace: Workspace, control: ScriptedServer) -> None:
    error = {"code": "ScriptFailed", "message": "init() raised KeyError", "step": "ready", "logTail": ["KeyError: 'x'"]}
    control.on("GET /api/v1/operations/op1", answer_json(operation("Failed", error=error)))
    control.on(f"GET {MANAGEMENT}/services/iris", answer_json(service(control, operationId="op1", state="Failed")))
    deployed = Webservice(workspace, "iris")
    with pytest.raises(WebserviceException) as refused:
        deployed.wait_for_deployment()
    for part in ("Failed", "step ready", "init() raised KeyError", "KeyError: 'x'", "op1", ".get_logs()"):
        assert part in str(refused.value)
    assert refused.value.code == "ScriptFailed" and deployed.state == "Failed"


def test_a_wait_has_a_limit_and_leaves_the_operation_running(workspace: Workspace, control: ScriptedServer) -> None:
    control.on("GET /api/v1/operations/op1", answer_json(operation("Running", ended=None)))
    control.on(f"GET {MANAGEMENT}/services/iris", answer_json(service(control, operationId="op1")))
    with pytest.raises(WebserviceException, match=r"has not ended within 0\.2 s .*goes on"):
        Webservice(workspace, "iris").wait_for_deployment(timeout_sec=0.2)


def test_steps_are_printed_with_their_times(
    workspace: Workspace, control: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    control.on(f"GET {MANAGEMENT}/services/iris", answer_json(service(control, operationId="op1")))
    Webservice(workspace, "iris").wait_for_deployment(show_output=True)
    assert capsys.readouterr().out.splitlines() == [
        "validate        0.5 s",
        "Succeeded       2.0 s",
        "Service iris: Healthy",
    ]


def test_a_replaced_key_is_fetched_again(workspace: Workspace, control: ScriptedServer) -> None:
    keys = [{"primaryKey": "old", "secondaryKey": "b"}, {"primaryKey": "new", "secondaryKey": "b"}]
    control.sequence(f"POST {MANAGEMENT}/services/iris/listkeys", [answer_json(each) for each in keys])
    control.sequence("POST /score", [Answer(401), answer_json([1])])
    assert Webservice(workspace, "iris").run(json.dumps({"data": []})) == [1]
    sent = [asked.headers["authorization"] for asked in control.asked if asked.path == "/score"]
    assert sent == ["Bearer old", "Bearer new"]


def test_a_status_other_than_200_is_an_error(workspace: Workspace, control: ScriptedServer) -> None:
    control.on(f"GET {MANAGEMENT}/services/iris", answer_json(service(control, authEnabled=False)))
    control.on("POST /score", Answer(502, b"broken", {"x-ms-error-code": "ModelError"}))
    with pytest.raises(WebserviceException, match=r"(?s)Response Code: 502.*broken") as refused:
        Webservice(workspace, "iris").run("{}")
    assert (refused.value.status_code, refused.value.code) == (502, "ModelError")


def test_keys_are_replaced_by_kind(workspace: Workspace, control: ScriptedServer) -> None:
    control.on(f"POST {MANAGEMENT}/services/iris/regenerateKeys", Answer(202, b"{}", ANNOUNCED))
    found = Webservice(workspace, "iris")
    found.regen_key("primary", set_key="k" * 32)
    assert last(control, "POST").document == {"keyType": "Primary", "keyValue": "k" * 32}
    with pytest.raises(WebserviceException, match="key must be Primary or Secondary"):
        found.regen_key("third")


def test_tokens_have_their_times(workspace: Workspace, control: ScriptedServer) -> None:
    token = {"accessToken": "t", "tokenType": "Bearer", "refreshAfter": 1000, "expiryOn": 2000}
    control.on(f"POST {MANAGEMENT}/services/iris/token", answer_json(token))
    found = AksWebservice(workspace, "iris")
    access = found.get_access_token()
    assert found.get_token() == ("t", access.refresh_after)
    assert (access.refresh_after.timestamp(), access.expiry_on.timestamp()) == (1000, 2000)
    assert "'t'" not in repr(access)


UPDATE: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    (
        {"autoscale_enabled": True, "autoscale_max_replicas": 4},
        [
            {"op": "replace", "path": "/autoScaler/autoscaleEnabled", "value": True},
            {"op": "replace", "path": "/autoScaler/maxReplicas", "value": 4},
        ],
    ),
    ({"tags": {"c": "d"}}, [{"op": "replace", "path": "/kvTags", "value": {"c": "d"}}]),
    ({"properties": {"a/b": "c"}}, [{"op": "add", "path": "/properties/a~1b", "value": "c"}]),
    ({"auth_enabled": False}, [{"op": "replace", "path": "/authEnabled", "value": False}]),
]


@pytest.mark.parametrize(("given", "sent"), UPDATE, ids=str)
def test_an_update_sends_only_the_given_parameters(
    workspace: Workspace, control: ScriptedServer, given: dict[str, Any], sent: list[dict[str, Any]]
) -> None:
    control.on(f"PATCH {MANAGEMENT}/services/iris", Answer(202, b"{}", ANNOUNCED))
    AksWebservice(workspace, "iris").update(**given)
    asked = last(control, "PATCH")
    assert asked.document == sent and asked.headers["content-type"] == "application/json-patch+json"


def test_an_update_without_parameters_is_refused(workspace: Workspace) -> None:
    with pytest.raises(WebserviceException, match="No parameters provided to update"):
        AksWebservice(workspace, "iris").update()
    with pytest.raises(WebserviceException, match='both "models" and "inference_config"'):
        AksWebservice(workspace, "iris").update(models=[])


@pytest.fixture
def endpoint(workspace: Workspace, control: ScriptedServer) -> AksEndpoint:
    versions = {name: service(control, isDefault=name == "versiona") for name in ("versiona", "versionb")}
    content = service(control, computeType="AKSENDPOINT", versions=versions)
    control.on(f"GET {MANAGEMENT}/services/iris", answer_json(content))
    control.on(f"PATCH {MANAGEMENT}/services/iris", Answer(202, b"{}", ANNOUNCED))
    deployable(control)
    return AksEndpoint(workspace, "iris")


def test_a_version_is_added_with_its_code(endpoint: AksEndpoint, control: ScriptedServer, source: Path) -> None:
    config = InferenceConfig("score.py", source_directory=str(source))
    endpoint.create_version("versionc", models=["iris:1"], inference_config=config, traffic_percentile=10)
    (sent,) = last(control, "PATCH").document
    assert (sent["op"], sent["path"]) == ("add", "/versions/versionc")
    assert sent["value"]["trafficPercentile"] == 10 and sent["value"]["computeName"] == "myaks"
    assert sent["value"]["environmentImageRequest"]["modelIds"] == ["iris:1"]


def test_a_version_is_changed_and_removed(endpoint: AksEndpoint, control: ScriptedServer) -> None:
    name = endpoint.versions["versionb"].name
    endpoint.update_version(name, traffic_percentile=40, is_default=True, is_control_version_type=True)
    assert last(control, "PATCH").document == [
        {"op": "replace", "path": "/versions/versionb/trafficPercentile", "value": 40},
        {"op": "replace", "path": "/versions/versionb/isDefault", "value": True},
        {"op": "replace", "path": "/versions/versionb/type", "value": "Control"},
    ]
    endpoint.delete_version("versionb")
    assert last(control, "PATCH").document == [{"op": "remove", "path": "/versions/versionb"}]


@pytest.mark.parametrize(
    ("method", "arguments", "rule"),
    [
        ("create_version", {"version_name": ""}, "No name is provided to create a version"),
        ("create_version", {"version_name": "versiona"}, "has a version versiona already"),
        ("create_version", {"version_name": "versionc", "cpu_cores": 0}, "Invalid configuration, cpu_cores"),
        ("update_version", {"version_name": "versiona"}, "No parameters provided to update a version"),
        ("update_version", {"version_name": "none", "cpu_cores": 1}, "has no version 'none'; it has versiona"),
        ("update_version", {"version_name": "versiona", "traffic_percentile": 101}, "traffic_percentile cannot be"),
        ("delete_version", {"version_name": "none"}, "has no version 'none'"),
        ("update", {}, "No parameters provided to update"),
    ],
    ids=str,
)
def test_wrong_changes_of_versions_are_refused(
    endpoint: AksEndpoint, method: str, arguments: dict[str, Any], rule: str
) -> None:
    with pytest.raises(WebserviceException, match=rule):
        getattr(endpoint, method)(**arguments)


def test_a_service_of_another_type_is_refused(workspace: Workspace) -> None:
    with pytest.raises(WebserviceException, match="of type AKS, not AksEndpoint"):
        AksEndpoint(workspace, "iris")


def test_a_missing_service_is_named_as_in_azure(workspace: Workspace, control: ScriptedServer) -> None:
    error = {"code": "WebserviceNotFound", "message": "none", "statusCode": 404}
    control.on(f"GET {MANAGEMENT}/services/none", answer_json(error, 404))
    with pytest.raises(WebserviceException, match="WebserviceNotFound") as refused:
        Webservice(workspace, "none")
    assert refused.value.status_code == 404


def test_services_are_listed_by_filters(workspace: Workspace, control: ScriptedServer) -> None:
    control.on(f"GET {MANAGEMENT}/services", answer_json({"value": [service(control)]}))
    (found,) = Webservice.list(workspace, model_name="iris", tags=["a", ["b", "c"]])
    assert found.name == "iris" and isinstance(found, AksWebservice)
    assert last(control, "GET").path.endswith("/services?expand=true&modelName=iris&tags=a%2Cb%3Dc")


def test_deletion_needs_no_operation(workspace: Workspace, control: ScriptedServer) -> None:
    control.on(f"DELETE {MANAGEMENT}/services/iris", Answer(204))
    found = Webservice(workspace, "iris")
    found.delete()
    assert found.state == "Deleting"


def test_every_name_of_a_compute_target_stands_for_the_one(workspace: Workspace, control: ScriptedServer) -> None:
    content = {"name": "myaks", "properties": {"computeType": "AKS", "provisioningState": "Succeeded"}}
    control.on(f"GET /rp/workspaces{SCOPE}/computes/myaks", answer_json(content))
    target = AksCompute(workspace, "myaks")
    target.wait_for_completion()
    assert target.get_status() == "Succeeded"
    with pytest.raises(ComputeTargetException, match="3 to 24"):
        AksCompute(workspace, "a")


def test_an_environment_is_registered_under_a_counted_version(workspace: Workspace, control: ScriptedServer) -> None:
    path = f"/environment/v1.0{SCOPE}/environments"
    made = Environment("science")
    made.python.conda_dependencies.add_pip_package("numpy")
    registered = {**made.as_dict(), "version": "3"}
    control.on(f"PUT {path}/science", answer_json(registered))
    control.on(f"GET {path}/science/versions/3", answer_json(registered))
    control.on(f"GET {path}/", answer_json({"value": [registered]}))
    error = {"code": "EnvironmentNotFound", "message": "none", "statusCode": 404}
    control.on(f"GET {path}/none", answer_json(error, 404))
    assert made.register(workspace).version == "3"
    assert Environment.get(workspace, "science", "3").as_dict() == registered
    assert workspace.environments["science"].python.conda_dependencies.pip_packages == ["numpy"]
    with pytest.raises(EnvironmentNotFoundException, match="environment none is not registered"):
        Environment.get(workspace, "none")


def test_attributes_of_a_service_have_the_names_of_azure(workspace: Workspace, control: ScriptedServer) -> None:
    found = AksWebservice(workspace, "iris")
    assert found.autoscaler.max_replicas == 10 and found.container_resource_requirements.memory_in_gb == 0.5
    assert found.created_time is not None and found.created_time.year == 2026
    assert len(PLACES) == 34
