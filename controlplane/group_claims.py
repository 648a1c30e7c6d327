"""Check of the identity that a router group claims. Pure.

All routers have certificates with the same name. They are distinguished by the address of their pod and by the workers
recorded for it in the membership history (`router.membership.history`).
"""

import ipaddress
from collections.abc import Collection, Mapping

from cluster.link import GroupIs


def claim_fault(said: GroupIs, host: str, pods: Mapping[str, Collection[str]], owners: Mapping[str, str]) -> str:
    """The fault in the identity claimed by a group, as text; "" if there is none.

    said: the claimed identity.
    host: remote address of the link; a loopback address is that of a proxy in this pod and is not checked.
    pods: known addresses of the router pods by name; if none is known, addresses are not checked.
    owners: worker -> the pod it is recorded for.
    """
    for worker in said.workers:
        owner = owners.get(worker, said.pod)
        if owner != said.pod:
            return f"worker {worker} belongs to router {owner}, not to {said.pod or 'one without a name'}"
    if not any(pods.values()) or _is_loopback(host):
        return ""
    if said.pod not in pods:
        return f"there is no router {said.pod or 'without a name'}"
    if host not in pods[said.pod]:
        return f"router {said.pod} is at {', '.join(pods[said.pod]) or 'no address yet'}, not at {host}"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
