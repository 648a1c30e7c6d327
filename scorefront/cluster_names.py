"""What the processes of one cluster know alike, untold: the leader's Lease, and where endpoints stand. Pure."""

from collections.abc import Mapping

LEASE = "scorefront-control"
NAMESPACES = "SCOREFRONT_NAMESPACES"


def watched_namespaces(environment: Mapping[str, str], home: str) -> tuple[str | None, ...]:
    """Where endpoints are looked for; None stands for everywhere."""
    names = [name.strip() for name in environment.get(NAMESPACES, "").split(",") if name.strip()]
    return (None,) if "*" in names else tuple(dict.fromkeys(names)) or (home,)
