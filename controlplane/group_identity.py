"""Check of the identity that a router group states in its messages. Pure.

All routers have certificates with the same name. They are distinguished by the address of their pod and by the workers
recorded for it in the membership history (`router.membership.history`).
"""

import ipaddress
from collections.abc import Collection, Mapping

from cluster.link import GroupIs


def identity_fault(identity: GroupIs, host: str, pods: Mapping[str, Collection[str]], owners: Mapping[str, str]) -> str:
    """The fault in the stated identity of a group, as text; "" if there is none.

    identity: the stated identity.
    host: remote address of the link; a loopback address is that of a proxy in this pod and is not checked.
    pods: known addresses of the router pods by name; if none is known, addresses are not checked.
    owners: worker -> the pod it is recorded for.
    """
    for worker in identity.workers:
        owner = owners.get(worker, identity.pod)
        if owner != identity.pod:
            return f"worker {worker} belongs to router {owner}, not to {identity.pod or 'one without a name'}"
    if not any(pods.values()) or _is_loopback(host):
        return ""
    if identity.pod not in pods:
        return f"there is no router {identity.pod or 'without a name'}"
    if host not in pods[identity.pod]:
        return f"router {identity.pod} is at {', '.join(pods[identity.pod]) or 'no address yet'}, not at {host}"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
