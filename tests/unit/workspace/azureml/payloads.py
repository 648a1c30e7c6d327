"""Payloads as azureml-core 1.61 sends them."""

import copy
from typing import Any

NOW = "2026-01-02T03:04:05+00:00"

IMAGE: dict[str, Any] = {
    "driverProgram": "tmpx.py",
    "assets": [
        {"id": "tmpx.py", "url": "aml://artifact/LocalUpload/c1/tmpx.py", "mimeType": "application/x-python"},
        {
            "id": "1a2b.tar.gz",
            "url": "aml://artifact/LocalUpload/c2/1a2b.tar.gz",
            "mimeType": "application/octet-stream",
            "unpack": True,
        },
    ],
    "modelIds": ["iris:1"],
    "environment": {
        "name": "myenv",
        "version": None,
        "environmentVariables": {
            "AZUREML_ENTRY_SCRIPT": "src/score.py",
            "AZUREML_SOURCE_DIRECTORY": "src",
            "GREETING": "hello",
        },
        "python": {"interpreterPath": "python", "condaDependencies": {"dependencies": ["python=3.11"]}},
    },
}

UNSET: dict[str, Any] = {
    "numReplicas": None,
    "computeName": "myaks",
    "containerResourceRequirements": dict.fromkeys(("cpu", "cpuLimit", "memoryInGB", "memoryInGBLimit", "gpu")),
    "maxConcurrentRequestsPerContainer": None,
    "maxQueueWaitMs": None,
    "namespace": None,
    "scoringTimeoutMs": None,
    "livenessProbeRequirements": dict.fromkeys(
        ("initialDelaySeconds", "periodSeconds", "failureThreshold", "successThreshold", "timeoutSeconds")
    ),
    "description": None,
    "kvTags": None,
    "properties": {"azureml.git.commit": "abc"},
    "keys": {"primaryKey": None, "secondaryKey": None},
    "location": None,
}
"""Everything that the SDK sends though the user has not set it."""


def aks(name: str = "myservice", **settings: Any) -> dict[str, Any]:
    """The payload of `AksWebservice.deploy_configuration(...)`. `settings`: of the payload."""
    return {**copy.deepcopy(UNSET), "name": name, "computeType": "AKS", "environmentImageRequest": IMAGE, **settings}


def endpoint(name: str = "myendpoint", version: str = "versiona", **settings: Any) -> dict[str, Any]:
    """The payload of `AksEndpoint.deploy_configuration(...)`: values also inside the version, as the SDK does.

    name: of the endpoint. version: of its version. settings: of the version.
    """
    inner = {**aks(version, **settings), "computeType": "AKSENDPOINT", "computeName": None}
    shared = {key: inner[key] for key in ("description", "properties", "namespace", "keys", "kvTags")}
    names = ("authEnabled", "aadAuthEnabled", "appInsightsEnabled")
    switches: dict[str, Any] = {str(key): settings[key] for key in names if key in settings}
    return {
        **shared,
        **switches,
        "name": name,
        "tags": None,
        "computeType": "AKSENDPOINT",
        "computeName": "myaks",
        "versions": {version: inner},
    }
