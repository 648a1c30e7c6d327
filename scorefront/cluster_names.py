"""Names shared by all processes of a cluster: the leader's Lease and the watched namespaces. Pure."""

from collections.abc import Mapping

LEASE = "scorefront-control"
NAMESPACES = "SCOREFRONT_NAMESPACES"


def watched_namespaces(environment: Mapping[str, str], home: str) -> tuple[str | None, ...]:
    """Namespaces with endpoints; None: all namespaces."""
    names = [name.strip() for name in environment.get(NAMESPACES, "").split(",") if name.strip()]
    return (None,) if "*" in names else tuple(dict.fromkeys(names)) or (home,)
