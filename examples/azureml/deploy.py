"""The steps of "Deploy a model to an Azure Kubernetes Service cluster" on scorefront, in the order of that article.

Start `scorefront up` in another terminal, then: python examples/azureml/deploy.py

With azureml-core installed the same lines run on Microsoft's SDK: import from azureml.core instead of scorefront.sdk,
and take the workspace from scorefront.azureml.connect("http://127.0.0.1:8081").
"""

# %% [markdown]
# # Deploy a model: from a file to a scoring endpoint
#
# `scorefront up` must be running. `Workspace.from_config()` finds it at `http://127.0.0.1:8081`, or where
# `SCOREFRONT_URL` says.

# %%
import json

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from scorefront.sdk import AksCompute, ComputeTarget, InferenceConfig, Model, Workspace
from scorefront.sdk.webservice import AksEndpoint, AksWebservice, Webservice

ws = Workspace.from_config()
print(ws)

# %% [markdown]
# ## Train and register a model

# %%
iris = load_iris()
joblib.dump(LogisticRegression(max_iter=1000).fit(iris.data, iris.target), "iris.joblib")

model = Model.register(ws, model_path="iris.joblib", model_name="iris", tags={"area": "flowers"})
print(model.id)

# %% [markdown]
# ## The code
#
# Without an environment the replicas use scorefront's Python. With one they get the packages that it names:
#
# ```python
# environment = Environment.from_conda_specification("iris", "conda.yml")
# inference_config = InferenceConfig("score.py", source_directory=".", environment=environment)
# ```

# %%
inference_config = InferenceConfig("score.py", source_directory=".")

# %% [markdown]
# ## Deploy to AKS

# %%
aks_target = AksCompute(ws, "myaks")
deployment_config = AksWebservice.deploy_configuration(cpu_cores=0.1, memory_gb=0.2)
service = Model.deploy(ws, "myservice", [model], inference_config, deployment_config, aks_target, overwrite=True)
service.wait_for_deployment(show_output=True)
print(service.state)
print(service.get_logs())

# %%
print(service.run(json.dumps({"data": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]})))

# %% [markdown]
# ## Autoscaling

# %%
service.update(
    autoscale_enabled=True, autoscale_target_utilization=30, autoscale_min_replicas=1, autoscale_max_replicas=4
)
service.wait_for_deployment(show_output=True)
print(service.autoscaler)

# %% [markdown]
# ## Keys and tokens

# %%
primary, secondary = service.get_keys()
service.regen_key("Primary")
print("the primary key has changed:", service.get_keys()[0] != primary)

# %%
service.update(auth_enabled=False, token_auth_enabled=True)
service.wait_for_deployment()
token, refresh_by = service.get_token()
print("a new token is needed after", refresh_by)
print(service.run(json.dumps({"data": [[5.1, 3.5, 1.4, 0.2]]})))

# %% [markdown]
# ## Controlled rollout: an endpoint with two versions
#
# `versiona` is configured for 20 %; as the default version it gets the unclaimed 80 % as well.

# %%
compute = ComputeTarget(ws, "myaks")
endpoint_name, version_name = "mynewendpoint", "versiona"
endpoint_deployment_config = AksEndpoint.deploy_configuration(
    cpu_cores=0.1,
    memory_gb=0.2,
    enable_app_insights=True,
    tags={"sckitlearn": "demo"},
    description="testing versions",
    version_name=version_name,
    traffic_percentile=20,
)
endpoint = Model.deploy(
    ws, endpoint_name, [model], inference_config, endpoint_deployment_config, compute, overwrite=True
)
endpoint.wait_for_deployment(True)

# %%
endpoint.create_version(
    version_name="versionb",
    inference_config=inference_config,
    models=[model],
    tags={"modelVersion": "b"},
    description="my second version",
    traffic_percentile=10,
)
endpoint.wait_for_deployment(True)
for name, version in endpoint.versions.items():
    print(name, version.traffic_percentile, version.is_default)

# %% [markdown]
# `versionb` becomes the default, so that 40 % of its own and the unclaimed 40 % are 80 %.

# %%
endpoint.update_version(
    version_name=endpoint.versions["versionb"].name,
    description="my second version update",
    traffic_percentile=40,
    is_default=True,
    is_control_version_type=True,
)
endpoint.wait_for_deployment(True)
for name, version in endpoint.versions.items():
    print(name, version.traffic_percentile, version.is_default, version.version_type)

# %%
endpoint.delete_version(version_name="versionb")
endpoint.wait_for_deployment(True)
print(list(endpoint.versions))

# %% [markdown]
# ## Clean up

# %%
print([each.name for each in Webservice.list(ws)])
endpoint.delete()
service.delete()
print([each.name for each in Webservice.list(ws)])
