"""Endpoints: services with up to six versions and a traffic split."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

from scorefront.sdk.aks_webservice import AksWebservice
from scorefront.sdk.deploy_configuration import AksEndpointDeploymentConfiguration
from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.inference_config import InferenceConfig
from scorefront.sdk.service_rules import creation_faults, service_name_fault, update_faults
from scorefront.sdk.service_settings import (
    CONTROL,
    TREATMENT,
    code_patch,
    patch,
    version_addition,
    version_payload,
    version_removal,
)

NOT_SETTINGS = ("self", "version_name", "models", "inference_config")


class AksEndpoint(AksWebservice, kind="AKSENDPOINT"):
    """An endpoint with named versions."""

    class VersionType(Enum):
        """Roles of a version in a comparison."""

        control = CONTROL
        treatment = TREATMENT

    @staticmethod
    def deploy_configuration(  # type: ignore[override]  # as in Azure ML
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        auth_enabled: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        enable_app_insights: bool | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        primary_key: str | None = None,
        secondary_key: str | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        version_name: str | None = None,
        traffic_percentile: float | None = None,
        compute_target_name: str | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> AksEndpointDeploymentConfiguration:
        """Limits, scaling and authentication of an endpoint and its first version.

        version_name: of the first version; default: the name of the endpoint.
        traffic_percentile: percent of the requests, 0 to 100; the default version gets the unclaimed rest.
        Others: as `AksWebservice.deploy_configuration`.
        Raises WebserviceException with every broken rule, a line each.
        """
        return AksEndpointDeploymentConfiguration(**locals())

    def create_version(
        self,
        version_name: str,
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        traffic_percentile: float | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> None:
        """Deploy a further version. `wait_for_deployment` waits for the end.

        version_name: 3 to 32 lowercase letters, digits, dashes.
        models, inference_config: its models and code.
        traffic_percentile: percent of the requests; default: 0.
        is_default: True to give it the unclaimed percentage. is_control_version_type: True for the one control version.
        Others: as `AksWebservice.deploy_configuration`.
        Raises WebserviceException with every broken rule, a line each.
        """
        given = {name: value for name, value in locals().items() if value is not None}
        if not version_name:
            raise WebserviceException(f"No name is provided to create a version in an Endpoint {self.name}")
        settings = {name: value for name, value in given.items() if name not in NOT_SETTINGS}
        faults = [fault for fault in (service_name_fault(version_name),) if fault] + creation_faults(settings)
        if version_name in self.versions:
            faults.append(f"Error, endpoint {self.name} has a version {version_name} already; see update_version.")
        if faults:
            raise WebserviceException("\n".join(faults))
        image = self.sent_code({"models": models or [], **given})
        self._patch(version_addition(version_name, version_payload(version_name, settings, image, self.compute_name)))

    def update_version(
        self,
        version_name: str,
        autoscale_enabled: bool | None = None,
        autoscale_min_replicas: int | None = None,
        autoscale_max_replicas: int | None = None,
        autoscale_refresh_seconds: int | None = None,
        autoscale_target_utilization: int | None = None,
        collect_model_data: bool | None = None,
        cpu_cores: float | None = None,
        memory_gb: float | None = None,
        scoring_timeout_ms: int | None = None,
        replica_max_concurrent_requests: int | None = None,
        max_request_wait_time: int | None = None,
        num_replicas: int | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
        description: str | None = None,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        gpu_cores: int | None = None,
        period_seconds: int | None = None,
        initial_delay_seconds: int | None = None,
        timeout_seconds: int | None = None,
        success_threshold: int | None = None,
        failure_threshold: int | None = None,
        traffic_percentile: float | None = None,
        is_default: bool | None = None,
        is_control_version_type: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> None:
        """Change a version; only parameters that are given. `wait_for_deployment` waits for the end.

        version_name: of the version. models, inference_config: new code; both or none.
        is_default: True; the former default version loses the role; False has no effect.
        Others: as `create_version`.
        Raises WebserviceException with every broken rule, a line each.
        """
        given = {name: value for name, value in locals().items() if value is not None}
        if not version_name:
            raise WebserviceException("No name is provided to update a version.")
        settings = {name: value for name, value in given.items() if name not in NOT_SETTINGS}
        if settings.get("is_default") is False:
            del settings["is_default"]
        if len(given) <= 2:
            raise WebserviceException("No parameters provided to update a version.")
        version = self._version(version_name)
        has = version.container_resource_requirements
        current = {"cpu_cores": has.cpu, "memory_gb": has.memory_in_gb}
        limits = {"cpu_cores_limit": has.cpu_limit, "memory_gb_limit": has.memory_in_gb_limit}
        if faults := update_faults(settings, False, False, {**current, **limits}):
            raise WebserviceException("\n".join(faults))
        under = f"/versions/{version_name}"
        self._patch([*patch(settings, under), *code_patch(self.sent_code(given), under)])

    def delete_version(self, version_name: str) -> None:
        """Delete a version. `wait_for_deployment` waits for the end. Raises WebserviceException."""
        if not version_name:
            raise WebserviceException(f"No name is provided to delete a version in an Endpoint {self.name}")
        self._version(version_name)
        self._patch(version_removal(version_name))

    def update(  # type: ignore[override]  # as in Azure ML
        self,
        auth_enabled: bool | None = None,
        token_auth_enabled: bool | None = None,
        enable_app_insights: bool | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        properties: dict[str, str] | None = None,
    ) -> None:
        """Change the endpoint itself; only parameters that are given. `wait_for_deployment` waits for the end.

        auth_enabled: keys. token_auth_enabled: tokens instead of keys. enable_app_insights: telemetry.
        description: text. tags: replace all tags. properties: can be added only.
        Raises WebserviceException with every broken rule, a line each.
        """
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        self.check_update(given)
        self._patch(patch(given))

    def _version(self, name: str) -> AksWebservice:
        found = self.versions.get(name)
        if found is None:
            self.update_deployment_state()
            found = self.versions.get(name)
        if found is None:
            names = ", ".join(self.versions)
            raise WebserviceException(f"Error, endpoint {self.name} has no version {name!r}; it has {names}.")
        return found

    def _take(self, content: dict[str, Any]) -> None:
        super()._take(content)
        versions = content.get("versions") or {}
        self.versions: dict[str, AksWebservice] = {}
        for name, each in versions.items():
            made = AksWebservice.made_of(self.workspace, {**each, "name": name, "computeType": "AKS"})
            if isinstance(made, AksWebservice):
                self.versions[name] = made
