"""Services with one version, slots and scaling."""

from collections.abc import Sequence
from typing import Any

from scorefront.sdk.deploy_configuration import AksServiceDeploymentConfiguration
from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.inference_config import InferenceConfig
from scorefront.sdk.model_ids import model_ids
from scorefront.sdk.service_parts import (
    AksServiceAccessToken,
    access_token,
    autoscaler,
    data_collection,
    liveness,
    resources,
)
from scorefront.sdk.service_rules import update_faults
from scorefront.sdk.service_settings import code_patch, patch
from scorefront.sdk.services import Webservice

NO_IMAGES = "image: images of Azure are not run; pass models and inference_config"


class AksWebservice(Webservice, kind="AKS"):
    """A service with one version."""

    @staticmethod
    def deploy_configuration(
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
        compute_target_name: str | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
        blobfuse_enabled: bool | None = None,
    ) -> AksServiceDeploymentConfiguration:
        """Limits, scaling and authentication of a service. Defaults are those of the service, used for None.

        autoscale_enabled: default True without num_replicas. autoscale_min_replicas: 1. autoscale_max_replicas: 10.
        autoscale_refresh_seconds: between two decisions, 1. autoscale_target_utilization: percent, 70.
        num_replicas: a fixed number instead of scaling.
        collect_model_data: False. enable_app_insights: False.
        cpu_cores, memory_gb: requests of a replica, 0.1 and 0.5. cpu_cores_limit, memory_gb_limit: none. gpu_cores: 0.
        scoring_timeout_ms: 60000, at most 300000. replica_max_concurrent_requests: slots of a replica, 1.
        max_request_wait_time: milliseconds in the queue, 500.
        period_seconds, initial_delay_seconds, timeout_seconds, success_threshold, failure_threshold: of the liveness
        probe: 10, 310, 2, 1, 3.
        auth_enabled: keys, True. token_auth_enabled: tokens instead of keys, False.
        primary_key, secondary_key: generated. namespace: of a cluster.
        compute_target_name: in place of a compute target. tags, properties: text to text. description: text.
        blobfuse_enabled: without effect.
        Raises WebserviceException with every broken rule, a line each.
        """
        return AksServiceDeploymentConfiguration(**locals())

    def update(
        self,
        image: object | None = None,
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
        namespace: str | None = None,
        token_auth_enabled: bool | None = None,
        cpu_cores_limit: float | None = None,
        memory_gb_limit: float | None = None,
    ) -> None:
        """Change the service; only parameters that are given. `wait_for_deployment` waits for the end.

        models, inference_config: new code; both or none. Others: as `deploy_configuration`; tags replace all tags,
        properties can be added only. image: not supported.
        Raises WebserviceException with every broken rule, a line each.
        """
        given = {name: value for name, value in locals().items() if name != "self" and value is not None}
        self.check_update(given)
        self._patch([*patch(given), *code_patch(self.sent_code(given))])

    def check_update(self, given: dict[str, Any]) -> None:
        """Raises WebserviceException for broken rules of an update. `given`: parameters that are not None."""
        if not given:
            raise WebserviceException("No parameters provided to update.")
        if "image" in given:
            raise WebserviceException(NO_IMAGES)
        has = self.container_resource_requirements
        current = {"cpu_cores": has.cpu, "memory_gb": has.memory_in_gb}
        limits = {"cpu_cores_limit": has.cpu_limit, "memory_gb_limit": has.memory_in_gb_limit}
        if faults := update_faults(
            given, bool(self.auth_enabled), bool(self.token_auth_enabled), {**current, **limits}
        ):
            raise WebserviceException("\n".join(faults))

    def sent_code(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """`environmentImageRequest` of new code, after it was sent; None: no new code.

        given: parameters; `models` and `inference_config` count. Raises WebserviceException.
        """
        models, config = given.get("models"), given.get("inference_config")
        if models is None and config is None:
            return None
        if models is None or config is None:
            raise WebserviceException('Error, both "models" and "inference_config" inputs must be provided.')
        if not isinstance(config, InferenceConfig):
            raise WebserviceException(f"inference_config: must be an InferenceConfig (got {config!r})")
        return config.uploaded(self.workspace.connection, model_ids(models))

    # ---- tags, properties, tokens

    def add_tags(self, tags: dict[str, str]) -> None:
        """Add tags, or replace those of the same name. Raises WebserviceException."""
        self.update(tags={**self.tags, **tags})

    def remove_tags(self, tags: list[str]) -> None:
        """Remove tags by name. Raises WebserviceException."""
        self.update(tags={name: text for name, text in self.tags.items() if name not in tags})

    def add_properties(self, properties: dict[str, str]) -> None:
        """Add properties; they cannot be changed afterwards. Raises WebserviceException."""
        self.update(properties=properties)

    def get_access_token(self) -> AksServiceAccessToken:
        """A token for scoring, with its times. Raises WebserviceException."""
        return access_token(self._call("POST", "/token"))

    def get_token(self) -> tuple[str, Any]:
        """A token for scoring, and the time to ask for a new one. Raises WebserviceException."""
        token = self.get_access_token()
        return token.access_token, token.refresh_after

    def _take(self, content: dict[str, Any]) -> None:
        super()._take(content)
        self.autoscaler = autoscaler(content.get("autoScaler"))
        self.container_resource_requirements = resources(content.get("containerResourceRequirements"))
        self.liveness_probe_requirements = liveness(content.get("livenessProbeRequirements"))
        self.data_collection = data_collection(content.get("dataCollection"))
        self.enable_app_insights: bool | None = content.get("appInsightsEnabled")
        self.max_concurrent_requests_per_container: int | None = content.get("maxConcurrentRequestsPerContainer")
        self.max_request_wait_time: int | None = content.get("maxQueueWaitMs")
        self.num_replicas: int | None = content.get("numReplicas")
        self.scoring_timeout_ms: int | None = content.get("scoringTimeoutMs")
        self.namespace: str | None = content.get("namespace")
        self.deployment_status: dict[str, Any] | None = content.get("deploymentStatus")
        self.models: list[dict[str, Any]] = list(content.get("models") or ())
        self.environment: dict[str, Any] | None = (content.get("environmentImageRequest") or {}).get("environment")
        self.is_default: bool | None = content.get("isDefault")
        self.traffic_percentile: float | None = content.get("trafficPercentile")
        self.version_type: str | None = content.get("type")
