"""Rules of the parameters of a deployment, with messages as those of Azure ML v1. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

ABOVE_ZERO = (
    *("cpu_cores", "memory_gb", "period_seconds", "initial_delay_seconds", "timeout_seconds", "success_threshold"),
    *("failure_threshold", "scoring_timeout_ms", "replica_max_concurrent_requests", "max_request_wait_time"),
    *("num_replicas", "cpu_cores_limit", "memory_gb_limit"),
)
AUTOSCALING = (
    *("autoscale_min_replicas", "autoscale_max_replicas", "autoscale_refresh_seconds"),
    "autoscale_target_utilization",
)
PERCENTAGES = ("autoscale_target_utilization",)
SWITCHES = (
    *("autoscale_enabled", "collect_model_data", "auth_enabled", "enable_app_insights", "token_auth_enabled"),
    *("blobfuse_enabled", "is_default", "is_control_version_type"),
)
TEXTS = ("primary_key", "secondary_key", "description", "namespace", "compute_target_name", "version_name")
PAIRS = ("tags", "properties")
NAMESPACE = "^[a-z0-9]([a-z0-9-]{,61}[a-z0-9])?$"
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
COMPUTE_NAME = re.compile(r"[a-zA-Z](?=.{2,23}$)([a-zA-Z0-9-]*[a-zA-Z0-9])?")
CREATING, UPDATING = "Invalid configuration, ", "Error, "


def creation_faults(settings: Mapping[str, Any]) -> list[str]:
    """Broken rules of the parameters of a new service or version; None = not given."""
    return [CREATING + fault for fault in _creation(settings)]


def update_faults(
    settings: Mapping[str, Any], key_auth: bool, token_auth: bool, current: Mapping[str, Any]
) -> list[str]:
    """Broken rules of the parameters of an update.

    settings: parameters; None = not given.
    key_auth, token_auth: kinds of authentication of the service as it is.
    current: cpu_cores, memory_gb, cpu_cores_limit, memory_gb_limit of the service as it is; None = none.
    """
    return [UPDATING + fault for fault in _update(settings, key_auth, token_auth, current)]


def service_name_fault(name: object) -> str | None:
    """The broken rule of the name of a service or version; None: valid."""
    if isinstance(name, str) and 3 <= len(name) <= 32 and SERVICE_NAME.fullmatch(name):
        return None
    return (
        f"Error, provided service name is invalid: {name!r} must have 3 to 32 lowercase letters, numbers and dashes,"
        " a letter first, and a letter or number last."
    )


def compute_name_fault(name: object) -> str | None:
    """The broken rule of the name of a compute target; None: valid."""
    if isinstance(name, str) and COMPUTE_NAME.fullmatch(name):
        return None
    return f"compute target {name!r}: the name must have 3 to 24 letters, digits and dashes, a letter first"


def _creation(settings: Mapping[str, Any]) -> Iterator[str]:
    wrong = list(_types(settings))
    yield from wrong
    if wrong:
        return  # the others compare numbers
    yield from _numbers(settings)
    yield from _limits(settings, settings)
    yield from _namespace(settings)
    yield from _scaling(settings)
    if settings.get("auth_enabled") and settings.get("token_auth_enabled"):
        yield "auth_enabled and token_auth_enabled cannot both be true."
    if settings.get("secondary_key") is not None and settings.get("primary_key") is None:
        yield "secondary_key provided without primary_key."


def _update(settings: Mapping[str, Any], key_auth: bool, token_auth: bool, current: Mapping[str, Any]) -> Iterator[str]:
    wrong = list(_types(settings))
    yield from wrong
    if wrong:
        return
    yield from _numbers(settings)
    yield from _limits(settings, {**current, **{key: value for key, value in settings.items() if value is not None}})
    yield from _namespace(settings)
    yield from _scaling(settings)
    key, token = settings.get("auth_enabled"), settings.get("token_auth_enabled")
    if key and token:
        yield "cannot set both token_auth_enabled and auth_enabled."
    elif token and key is None and key_auth:
        yield "cannot set token_auth_enabled without disabling key auth (set auth_enabled to False)."
    elif key and token is None and token_auth:
        yield "cannot set auth_enabled without disabling token auth (set token_auth_enabled to False)."


def _types(settings: Mapping[str, Any]) -> Iterator[str]:
    numbers = (*ABOVE_ZERO, *AUTOSCALING, "gpu_cores", "traffic_percentile")
    for name, value in settings.items():
        if value is None:
            continue
        if name in numbers and (isinstance(value, bool) or not isinstance(value, int | float)):
            yield f"{name} must be a number (got {value!r})."
        elif name in SWITCHES and not isinstance(value, bool):
            yield f"{name} must be True or False (got {value!r})."
        elif name in TEXTS and not isinstance(value, str):
            yield f"{name} must be text." if name.endswith("_key") else f"{name} must be text (got {value!r})."
        elif name in PAIRS and not (
            isinstance(value, dict) and all(isinstance(text, str) for pair in value.items() for text in pair)
        ):
            yield f"{name} must be a dictionary of text to text (got {value!r})."


def _numbers(settings: Mapping[str, Any]) -> Iterator[str]:
    for name in ABOVE_ZERO:
        value = settings.get(name)
        if value is not None and not value > 0:
            yield f"{name} must be greater than zero."
    gpu = settings.get("gpu_cores")
    if gpu is not None and gpu < 0:
        yield "gpu_cores must be greater than or equal to zero."
    share = settings.get("traffic_percentile")
    if share is not None and not 0 <= share <= 100:
        yield "traffic_percentile cannot be negative or greater than 100."


def _limits(settings: Mapping[str, Any], effective: Mapping[str, Any]) -> Iterator[str]:
    """`settings`: given parameters. `effective`: those that hold afterwards."""
    for name in ("cpu_cores", "memory_gb"):
        limit, request = effective.get(f"{name}_limit"), effective.get(name)
        given = settings.get(f"{name}_limit") is not None or settings.get(name) is not None
        if given and limit is not None and request is not None and limit < request:
            yield f"{name}_limit must be greater than or equal to {name}."


def _namespace(settings: Mapping[str, Any]) -> Iterator[str]:
    namespace = settings.get("namespace")
    if namespace is not None and not re.fullmatch(NAMESPACE.replace("{,61}", "{0,61}"), namespace):
        yield f"namespace must be a valid Kubernetes namespace. Regex for validation is {NAMESPACE}"


def _scaling(settings: Mapping[str, Any]) -> Iterator[str]:
    enabled, number = settings.get("autoscale_enabled"), settings.get("num_replicas")
    given = {name: settings[name] for name in AUTOSCALING if settings.get(name) is not None}
    if enabled is not True:
        if enabled is False and number is None:
            yield "autoscale disabled but num_replicas not provided."
        yield from (f"{name} provided without enabling autoscaling." for name in given)
        return
    if number is not None:
        yield "autoscale enabled and num_replicas provided."
    yield from (f"{name} must be greater than zero." for name, value in given.items() if not value > 0)
    yield from (f"{name} must be at most 100." for name in PERCENTAGES if given.get(name, 0) > 100)
    least, most = given.get("autoscale_min_replicas"), given.get("autoscale_max_replicas")
    if least is not None and most is not None and least > most:
        yield "autoscale_min_replicas cannot be greater than autoscale_max_replicas."
