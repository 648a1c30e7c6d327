"""Compute targets. There is one, this machine or this cluster, and every valid name stands for it."""

from dataclasses import dataclass, field
from typing import Any

from scorefront.sdk.control_connection import ConnectedWorkspace
from scorefront.sdk.exceptions import ComputeTargetException
from scorefront.sdk.service_rules import compute_name_fault


@dataclass(frozen=True)
class AksComputeConfiguration:
    """Parameters of a cluster to attach or to create; kept for scripts of Azure ML, without effect."""

    parameters: dict[str, Any] = field(default_factory=dict)


class ComputeTarget:
    """A place for services."""

    def __init__(self, workspace: ConnectedWorkspace, name: str) -> None:
        """The compute target of that name.

        name: 3 to 24 letters, digits and dashes, a letter first. Raises ComputeTargetException.
        """
        if fault := compute_name_fault(name):
            raise ComputeTargetException(fault)
        self.workspace = workspace
        self.name = name
        self._take(workspace.connection.call("GET", self._path(), error=ComputeTargetException))

    @staticmethod
    def attach(workspace: ConnectedWorkspace, name: str, attach_configuration: AksComputeConfiguration) -> "AksCompute":
        """The compute target under that name.

        name: of the compute target. attach_configuration: without effect. Raises ComputeTargetException.
        """
        return AksCompute(workspace, name)

    @staticmethod
    def create(
        workspace: ConnectedWorkspace, name: str, provisioning_configuration: AksComputeConfiguration
    ) -> "AksCompute":
        """The compute target under that name; no machine is created.

        name: of the compute target. provisioning_configuration: without effect. Raises ComputeTargetException.
        """
        return AksCompute(workspace, name)

    @staticmethod
    def list(workspace: ConnectedWorkspace) -> "list[ComputeTarget]":
        """The compute targets of a workspace."""
        path = f"/rp/workspaces{workspace.connection.scope}/computes"
        found = workspace.connection.call("GET", path, error=ComputeTargetException)
        return [AksCompute(workspace, each["name"]) for each in found["value"]]

    def wait_for_completion(self, show_output: bool = False, is_delete_operation: bool = False) -> None:
        """Return at once: there is nothing to wait for. `show_output`: True to print the state."""
        if show_output:
            print(f"{self.provisioning_state}: {self.name}")

    def get_status(self) -> str:
        """State of the compute target: Succeeded."""
        return self.provisioning_state

    def refresh_state(self) -> None:
        """Read the compute target again."""
        self._take(self.workspace.connection.call("GET", self._path(), error=ComputeTargetException))

    def delete(self) -> None:
        """Forget the name; services stay."""

    def detach(self) -> None:
        """Forget the name; services stay."""

    def serialize(self) -> dict[str, Any]:
        """The compute target as the control plane describes it."""
        return dict(self._content)

    def _path(self) -> str:
        return f"/rp/workspaces{self.workspace.connection.scope}/computes/{self.name}"

    def _take(self, content: dict[str, Any]) -> None:
        properties = content.get("properties") or {}
        self._content = content
        self.location = content.get("location")
        self.type = properties.get("computeType", "AKS")
        self.provisioning_state = str(properties.get("provisioningState", "Succeeded"))
        self.cluster_resource_id = properties.get("resourceId")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, provisioning_state={self.provisioning_state!r})"


class AksCompute(ComputeTarget):
    """A place for services with slots and scaling."""

    class ClusterPurpose:
        """Purposes of a cluster; without effect."""

        FAST_PROD = "FastProd"
        DEV_TEST = "DevTest"

    @staticmethod
    def attach_configuration(
        resource_group: str | None = None,
        cluster_name: str | None = None,
        resource_id: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
    ) -> AksComputeConfiguration:
        """Parameters of `ComputeTarget.attach`; without effect."""
        return AksComputeConfiguration(dict(locals()))

    @staticmethod
    def provisioning_configuration(
        agent_count: int | None = None,
        vm_size: str | None = None,
        ssl_cname: str | None = None,
        ssl_cert_pem_file: str | None = None,
        ssl_key_pem_file: str | None = None,
        location: str | None = None,
        vnet_resourcegroup_name: str | None = None,
        vnet_name: str | None = None,
        subnet_name: str | None = None,
        service_cidr: str | None = None,
        dns_service_ip: str | None = None,
        docker_bridge_cidr: str | None = None,
        cluster_purpose: str | None = None,
        load_balancer_type: str | None = None,
        load_balancer_subnet: str | None = None,
    ) -> AksComputeConfiguration:
        """Parameters of `ComputeTarget.create`; without effect."""
        return AksComputeConfiguration(dict(locals()))
