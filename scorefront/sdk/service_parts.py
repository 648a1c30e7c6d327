"""Parts of a service as attributes with the names of Azure ML v1."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class AutoScaler:
    """Scaling of replicas."""

    autoscale_enabled: bool | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    refresh_period_seconds: int | None = None
    target_utilization: int | None = None
    """Percent."""


@dataclass(frozen=True)
class ContainerResourceRequirements:
    """Resources of a replica."""

    cpu: float | None = None
    """Cores."""
    cpu_limit: float | None = None
    memory_in_gb: float | None = None
    memory_in_gb_limit: float | None = None
    gpu: int | None = None


@dataclass(frozen=True)
class LivenessProbeRequirements:
    """Liveness probe of a replica."""

    period_seconds: int | None = None
    initial_delay_seconds: int | None = None
    timeout_seconds: int | None = None
    success_threshold: int | None = None
    failure_threshold: int | None = None


@dataclass(frozen=True)
class ServiceDataCollection:
    """Collection of requests and responses."""

    storage_enabled: bool | None = None
    event_hub_enabled: bool | None = None


@dataclass(frozen=True)
class AksServiceAccessToken:
    """A token for scoring; times are in local time, as in Azure ML."""

    access_token: str
    token_type: str
    refresh_after: datetime
    """Time to ask for a new one."""
    expiry_on: datetime

    def __repr__(self) -> str:
        return f"AksServiceAccessToken(token_type={self.token_type!r}, refresh_after={self.refresh_after})"


def autoscaler(content: Mapping[str, Any] | None) -> AutoScaler:
    """The `autoScaler` of a service."""
    keys = ("autoscaleEnabled", "minReplicas", "maxReplicas", "refreshPeriodInSeconds", "targetUtilization")
    return AutoScaler(*((content or {}).get(key) for key in keys))


def resources(content: Mapping[str, Any] | None) -> ContainerResourceRequirements:
    """The `containerResourceRequirements` of a service."""
    keys = ("cpu", "cpuLimit", "memoryInGB", "memoryInGBLimit", "gpu")
    return ContainerResourceRequirements(*((content or {}).get(key) for key in keys))


def liveness(content: Mapping[str, Any] | None) -> LivenessProbeRequirements:
    """The `livenessProbeRequirements` of a service."""
    keys = ("periodSeconds", "initialDelaySeconds", "timeoutSeconds", "successThreshold", "failureThreshold")
    return LivenessProbeRequirements(*((content or {}).get(key) for key in keys))


def data_collection(content: Mapping[str, Any] | None) -> ServiceDataCollection:
    """The `dataCollection` of a service."""
    found = content or {}
    return ServiceDataCollection(found.get("storageEnabled"), found.get("eventHubEnabled"))


def access_token(content: Mapping[str, Any]) -> AksServiceAccessToken:
    """The token in a response."""
    return AksServiceAccessToken(
        str(content["accessToken"]),
        str(content["tokenType"]),
        datetime.fromtimestamp(content["refreshAfter"]),
        datetime.fromtimestamp(content["expiryOn"]),
    )


def time_of(text: str | None) -> datetime | None:
    """A time in ISO 8601, in UTC; None: none."""
    return None if not text else datetime.fromisoformat(text).astimezone(UTC)
