"""Compute targets of Azure ML v1: every valid name stands for this machine. Pure."""

import re
from typing import Any

from serving.faults import shown
from workspace.azureml.azure_errors import AzureError

NAME = re.compile(r"[a-zA-Z](?:[a-zA-Z0-9-]{1,22})[a-zA-Z0-9]")
NAME_RULE = "3 to 24 letters, digits and dashes, beginning with a letter and not ending with a dash"
PURPOSES = ("FastProd", "DenseProd", "DevTest")
CREATED = "2020-01-01T00:00:00+00:00"


def check_name(name: str) -> None:
    """Raises AzureError for a name that no compute target can have."""
    if not NAME.fullmatch(name):
        raise AzureError(400, "InvalidComputeName", f"compute target: must have {NAME_RULE} (got {shown(name)})")


def compute_object(name: str, scope: str, cores: int, address: str) -> dict[str, Any]:
    """The compute target as the SDK reads it.

    name: of the target. scope: path of the workspace. cores: of this machine. address: of the front end.
    """
    return {
        "id": f"{scope}/computes/{name}",
        "name": name,
        "type": "Microsoft.MachineLearningServices/workspaces/computes",
        "location": "local",
        "tags": {},
        "properties": {
            "computeType": "AKS",
            "computeLocation": "local",
            "isAttachedCompute": True,
            "description": "this machine: every name of a compute target stands for it",
            "resourceId": f"{scope}/managedClusters/{name}",
            "provisioningState": "Succeeded",
            "provisioningErrors": None,
            "createdOn": CREATED,
            "modifiedOn": CREATED,
            "properties": {
                "agentVmSize": "local",
                "agentCount": cores,
                "clusterPurpose": "FastProd",
                "clusterFqdn": address,
                "systemServices": [],
                "sslConfiguration": None,
                "loadBalancerType": "PublicIp",
                "loadBalancerSubnet": None,
            },
        },
    }
