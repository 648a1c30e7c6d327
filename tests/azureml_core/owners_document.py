"""Run by a Python with azureml-core: the snippets of "Deploy a model to an Azure Kubernetes Service cluster", in order.

Arguments: URL of the control port, folder with model.joblib and src/score.py, release of Python for the replicas.
"""

import os
import sys
from collections import Counter
from pathlib import Path

from azureml.core import Environment
from azureml.core.compute import AksCompute, ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.model import InferenceConfig, Model
from azureml.core.webservice import AksEndpoint, AksWebservice, Webservice
from azureml.exceptions import WebserviceException

from scorefront.azureml import connect

SAMPLE = '{"data": [[5.1, 3.5, 1.4, 0.2]]}'


def refused(call, *words):  # type: ignore[no-untyped-def]
    """The call raises an error of the SDK that has these words."""
    text = ""
    try:
        call()
    except WebserviceException as error:
        text = str(error)
    assert text, f"not refused: {words}"
    assert all(word in text for word in words), (words, text)


ws = connect(sys.argv[1])
os.chdir(sys.argv[2])
assert Webservice.list(ws) == []

model = Model.register(
    ws, model_path="model.joblib", model_name="mymodel", tags={"area": "flowers"}, description="iris"
)
assert (model.id, model.version) == ("mymodel:1", 1)
assert Model.register(ws, model_path="model.joblib", model_name="mymodel").version == 2
assert [each.id for each in Model.list(ws, name="mymodel")] == ["mymodel:2", "mymodel:1"]
assert [each.id for each in Model.list(ws, tags=[["area", "flowers"]])] == ["mymodel:1"]
assert Path(model.download("download", exist_ok=True)).read_bytes() == Path("model.joblib").read_bytes()
model.add_tags({"more": "tags"})
assert Model(ws, id="mymodel:1").tags == {"area": "flowers", "more": "tags"}

environment = Environment("myenv")
environment.python.conda_dependencies = CondaDependencies.create(
    pip_packages=["azureml-defaults", "scikit-learn", "joblib"], python_version=sys.argv[3]
)
inference_config = InferenceConfig(entry_script="score.py", source_directory="src", environment=environment)

# Deploy to AKS
aks_target = AksCompute(ws, "myaks")
assert aks_target.provisioning_state == "Succeeded"
assert [each.name for each in ComputeTarget.list(ws)] == ["local"]
deployment_config = AksWebservice.deploy_configuration(cpu_cores=1, memory_gb=1)
service = Model.deploy(ws, "myservice", [model], inference_config, deployment_config, aks_target)
service.wait_for_deployment(show_output=True)
assert service.state == "Healthy", service.state
assert service.get_logs()
assert service.run(SAMPLE) is not None
assert [each.id for each in service.models] == ["mymodel:1"]
refused(
    lambda: Model.deploy(ws, "myservice", [model], inference_config, deployment_config, aks_target), "already exists"
)

# Autoscaling
aks_config = AksWebservice.deploy_configuration(
    autoscale_enabled=True, autoscale_target_utilization=30, autoscale_min_replicas=1, autoscale_max_replicas=4
)
service = Model.deploy(ws, "myservice", [model], inference_config, aks_config, aks_target, overwrite=True)
service.wait_for_deployment(True)
assert service.autoscaler.target_utilization == 30
service.update(autoscale_enabled=True, autoscale_max_replicas=3)
service.wait_for_deployment(True)
assert (service.autoscaler.min_replicas, service.autoscaler.max_replicas) == (1, 3)
refused(lambda: service.update(scoring_timeout_ms=400_000), "scoringTimeoutMs", "300000")

# New code
Path("src/score.py").write_text(Path("src/score.py").read_text() + "\n# changed\n")
service.update(models=[Model(ws, "mymodel")], inference_config=inference_config)
service.wait_for_deployment(True)
assert [each.id for each in service.models] == ["mymodel:2"]

# Authentication with keys and tokens
primary, secondary = service.get_keys()
service.regen_key("Primary")
assert service.get_keys()[0] != primary
assert service.get_keys()[1] == secondary
service.update(auth_enabled=False, token_auth_enabled=True)
service.wait_for_deployment(True)
token, refresh_by = service.get_token()
assert token.count(".") == 2
assert service.get_access_token().expiry_on > refresh_by
assert service.run(SAMPLE) is not None

# Endpoints with versions
endpoint_config = AksEndpoint.deploy_configuration(
    cpu_cores=0.1,
    memory_gb=0.2,
    enable_app_insights=True,
    tags={"modelVersion": "a"},
    description="my first version",
    version_name="versiona",
    traffic_percentile=20,
)
endpoint = Model.deploy(ws, "myendpoint", [model], inference_config, endpoint_config, aks_target)
endpoint.wait_for_deployment(True)
assert endpoint.versions["versiona"].is_default
endpoint.create_version(
    version_name="versionb",
    inference_config=inference_config,
    models=[model],
    tags={"modelVersion": "b"},
    description="my second version",
    traffic_percentile=10,
)
endpoint.wait_for_deployment(True)
assert endpoint.versions["versionb"].description == "my second version"
endpoint.update_version(
    version_name=endpoint.versions["versionb"].name,
    description="my second version update",
    traffic_percentile=40,
    is_default=True,
    is_control_version_type=True,
)
endpoint.wait_for_deployment(True)
second = endpoint.versions["versionb"]
assert (second.traffic_percentile, second.is_default, second.version_type) == (40, True, "Control")
sent = Counter(
    endpoint._webservice_session.post(endpoint.scoring_uri, data=SAMPLE).headers["azureml-model-deployment"]
    for _ in range(100)
)
assert 60 <= sent["versionb"] <= 95, sent
refused(lambda: endpoint.update_version("versionb", traffic_percentile=90), "100")
endpoint.delete_version(version_name="versionb")
endpoint.wait_for_deployment(True)
assert list(endpoint.versions) == ["versiona"]
refused(lambda: endpoint.delete_version("versiona"), "only version")
assert sorted((each.name, each.state) for each in Webservice.list(ws)) == [
    ("myendpoint", "Healthy"),
    ("myservice", "Healthy"),
]
assert [each.name for each in Webservice.list(ws, compute_type="AksEndpoint", model_name="mymodel")] == ["myendpoint"]

# A deployment that fails: step and reason
Path("src/score.py").write_text("import no_such_package\ndef init(): ...\ndef run(data): return data\n")
broken = Model.deploy(ws, "broken", [model], inference_config, deployment_config, aks_target)
refused(lambda: broken.wait_for_deployment(True), "Failed", "no_such_package")
broken.update_deployment_state()
assert broken.state == "Failed"
assert "no_such_package" in broken.get_logs()
endpoint.update_version("versiona", inference_config=inference_config, models=[model])
refused(lambda: endpoint.wait_for_deployment(True), "no_such_package")
assert endpoint.run(SAMPLE) is not None, "the old version serves"

for each in Webservice.list(ws):
    each.delete()
assert Webservice.list(ws) == []
print("every snippet ran")
