"""Limits and times of the data plane, each set by an environment variable `SCOREFRONT_<NAME IN CAPITALS>`."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


class SettingError(ValueError):
    """A setting that is of the wrong type, or out of its range."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Each is documented with its unit; the defaults are meant for clients on the open internet."""

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
    """How long a new connection may be silent before it is closed."""
    idle_timeout_s: float = 75.0
    """How long a connection may be idle between requests."""
    unauthorized_idle_timeout_s: float = 15.0
    """The same, while no request on the connection has been admitted by an endpoint."""
    tls_handshake_timeout_s: float = 10.0
    """From the connection to the agreement on TLS; later it is broken off."""
    tunnel_idle_s: float = 300.0
    """How long nothing may pass through a WebSocket in either direction; then both sides are closed."""
    write_timeout_s: float = 60.0
    """How long a client may take nothing of an answer that waits for it; then the connection is cut."""
    max_connections: int = 15_000
    """Client connections of one worker; for a further one an idle one without an admitted request is closed."""
    max_address_connections: int = 0
    """Of them from one client address (IPv6: from one /64); 0: any number. A further one is answered 503 and closed."""
    half_heads_bytes: int = 67_108_864
    """Request heads that are not whole, over all connections of one worker; above it the oldest are answered 408."""
    buffer_bytes: int = 65_536
    """What is buffered of a body in either direction before the sender is paused."""
    connect_timeout_s: float = 1.0
    """For a connection to a replica; then another replica is tried."""
    max_attempts: int = 3
    """Replicas that a request may be tried on, where it cannot have begun."""
    upstream_idle_s: float = 4.0
    """How long a connection to a replica is kept for reuse: less than the 5 s after which common servers close one."""
    lame_duck_s: float = 0.0
    """After SIGTERM: how long to go on accepting, so that load balancers see the failed readiness."""
    drain_timeout_s: float = 8.0
    """After SIGTERM: how long requests in flight may take to end."""
    lease_s: float = 2.0
    """How long a slot is left alone that a worker had in use when it died: its replica may still be at work."""
    poll_s: float = 0.0
    """How long a worker goes on looking for more before it sleeps; 0: not at all."""
    hide_endpoints: bool = False
    """Whether a request to an unknown endpoint is answered 401, as one without a valid credential."""
    worker_silent_s: float = 5.0
    """A worker whose loop has stood still for this long is killed, and another one started."""


def from_environment(environment: Mapping[str, str] = os.environ) -> RouterSettings:
    """The settings, with what the environment says. Raises SettingError that names the variable and the rule."""
    told: dict[str, Any] = {}
    for name, default in asdict(RouterSettings()).items():
        read = switch if isinstance(default, bool) else number
        told[name] = read(environment, f"SCOREFRONT_{name.upper()}", default)
    return RouterSettings(**told)


def switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    """What one variable says (`true` or `false`), else its default.

    Raises SettingError that names the variable and the rule.
    """
    text = environment.get(name)
    if text is None:
        return default
    if text not in ("true", "false"):
        raise SettingError(f"{name}: must be true or false (got {text!r})")
    return text == "true"


def number(environment: Mapping[str, str], name: str, default: float) -> float:
    """What one variable says, else its default: whole if the default is, above 0 unless the default is 0.

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
