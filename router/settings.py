"""Limits and times of the data plane, each set by an environment variable `SCOREFRONT_<NAME IN CAPITALS>`."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from serving.destinations import Network, NotANetwork, networks
from serving.issuer_hosts import SETTING as ISSUER_HOSTS
from serving.issuer_hosts import IssuerHosts, NotHosts, issuer_hosts


class SettingError(ValueError):
    """A setting of the wrong type or out of range."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Limits of one worker; the unit is part of each name. The defaults suit clients on the open internet."""

    max_head_bytes: int = 65_536
    """Request line and header fields together; more is 431."""
    max_target_bytes: int = 16_384
    """The request target; more is 414."""
    max_fields: int = 100
    """Header fields of a request; more is 431."""
    max_body_bytes: int = 100_000_000
    """Body of a request; more is 413. azureml-fe takes 100 MB."""
    max_response_head_bytes: int = 262_144
    """Head of a replica's answer; more is 502."""
    head_timeout_s: float = 10.0
    """From the first byte of a request to the end of its head; later is 408."""
    body_timeout_s: float = 30.0
    """Longest pause within a request body; longer is 408."""
    first_byte_timeout_s: float = 15.0
    """From the connection to its first byte; later it is closed."""
    idle_timeout_s: float = 75.0
    """Longest idle time between requests on a connection."""
    unauthorized_idle_timeout_s: float = 15.0
    """The same, while no request on the connection has been admitted by an endpoint."""
    tls_handshake_timeout_s: float = 10.0
    """Longest TLS handshake; a longer one is aborted."""
    tunnel_idle_s: float = 300.0
    """Longest silence in both directions of a WebSocket; then both sides are closed."""
    write_timeout_s: float = 60.0
    """Longest time without progress while a client does not read its response; then the connection is aborted."""
    max_connections: int = 15_000
    """Client connections of one worker; a further one replaces the longest idle unauthorized one."""
    max_address_connections: int = 0
    """Client connections from one address (IPv6: one /64); 0: no limit. A further one is answered 503 and closed."""
    half_heads_bytes: int = 67_108_864
    """Partial request heads of all connections of one worker; above it the oldest are answered 408."""
    buffer_bytes: int = 65_536
    """Buffer for a body in either direction; when it is full the sender is paused."""
    collect_bytes: int = 8_000_000
    """Request body collected before the request takes a slot, and response held after it has released the slot."""
    collect_total_bytes: int = 256_000_000
    """Bodies held by one worker, beyond `buffer_bytes` per connection; above it they are streamed, slot in hand."""
    connect_timeout_s: float = 1.0
    """Timeout of a connection to a replica; then another replica is tried."""
    max_attempts: int = 3
    """Attempts of a request, as long as no replica can have started it."""
    upstream_idle_s: float = 4.0
    """Idle time of a pooled connection to a replica: below the 5 s after which common servers close one."""
    lame_duck_s: float = 0.0
    """After SIGTERM: time to keep accepting, so that load balancers see the failed readiness."""
    drain_timeout_s: float = 8.0
    """After SIGTERM: time for requests in flight to end."""
    lease_s: float = 2.0
    """Quarantine of the slots of a dead worker: their replicas may still be busy."""
    poll_s: float = 0.0
    """Busy polling after the last activity; 0: off."""
    short_slices: bool = True
    """Short time slices of the scheduler (Linux 6.12): a worker that wakes does not wait for the running process."""
    hide_endpoints: bool = False
    """Answer requests to unknown endpoints with 401, like those without a valid credential."""
    trusted_proxies: tuple[Network, ...] = ()
    """Networks of proxies whose X-Forwarded-* fields are kept; those of other peers are replaced."""
    worker_silent_s: float = 5.0
    """Longest stall of a worker's event loop; then the worker is killed and replaced."""


DRAIN_TIMEOUT = "SCOREFRONT_DRAIN_TIMEOUT_S"


def from_environment(environment: Mapping[str, str] = os.environ) -> RouterSettings:
    """The defaults, overridden by the environment. Raises SettingError that names the variable and the rule."""
    overrides: dict[str, Any] = {}
    for name, default in asdict(RouterSettings()).items():
        variable = f"SCOREFRONT_{name.upper()}"
        if isinstance(default, tuple):
            overrides[name] = _networks(environment, variable)
        else:
            overrides[name] = (switch if isinstance(default, bool) else number)(environment, variable, default)
    return RouterSettings(**overrides)


def issuer_hosts_allowed(environment: Mapping[str, str], in_cluster: bool) -> IssuerHosts:
    """The allowed hosts of token issuers; default: all. Raises SettingError."""
    try:
        return issuer_hosts(environment.get(ISSUER_HOSTS), in_cluster)
    except NotHosts as error:
        raise SettingError(str(error)) from None


def _networks(environment: Mapping[str, str], name: str) -> tuple[Network, ...]:
    try:
        return networks(environment.get(name, ""), name)
    except NotANetwork as error:
        raise SettingError(str(error)) from None


def switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    """The value of a boolean variable (`true` or `false`).

    `environment`: the variables. `name`: the variable. `default`: its value if unset.

    Raises SettingError that names the variable and the rule.
    """
    text = environment.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise SettingError(f"{name}: must be true or false (got {text!r})")
    return text == "true"


def number(environment: Mapping[str, str], name: str, default: float) -> float:
    """The value of a numeric variable: an integer if the default is one, above 0 unless the default is 0.

    `environment`: the variables. `name`: the variable. `default`: its value if unset.

    Raises SettingError that names the variable and the rule.
    """
    text = environment.get(name)
    if text is None:
        return default
    whole = isinstance(default, int)
    least = "at least 0" if default == 0 else "above 0"
    rule = f"{name}: must be a {'whole ' if whole else ''}number, {least} and below 1e12 (got {text!r})"
    try:
        value = int(text) if whole else float(text)
    except ValueError as error:
        raise SettingError(rule) from error
    if not 0 <= value < 1e12 or (value == 0 and default != 0):
        raise SettingError(rule)
    return value
