"""The SDK of Azure ML v1 for scorefront: the same names and signatures, without azureml-core.

    from scorefront.sdk import Workspace
    ws = Workspace("http://127.0.0.1:8081")

Modules are named as those of azureml.core, so that only the import lines of a script change. User code never runs in
it, and no message shows a key.
"""

from scorefront.sdk import exceptions
from scorefront.sdk.compute import AksCompute, ComputeTarget
from scorefront.sdk.conda_dependencies import CondaDependencies
from scorefront.sdk.environment import Environment
from scorefront.sdk.inference_config import InferenceConfig
from scorefront.sdk.model import Model, ResourceConfiguration
from scorefront.sdk.webservice import AksEndpoint, AksWebservice, Webservice
from scorefront.sdk.workspace import Workspace

__all__ = [
    "AksCompute",
    "AksEndpoint",
    "AksWebservice",
    "ComputeTarget",
    "CondaDependencies",
    "Environment",
    "InferenceConfig",
    "Model",
    "ResourceConfiguration",
    "Webservice",
    "Workspace",
    "exceptions",
]
