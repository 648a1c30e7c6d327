"""Whether a router group may call itself what it does. Pure.

All routers show certificates of one name. What tells them apart is the address of their pod, and the workers that the
routers' own record (`router.membership.history`) has for it.
"""

import ipaddress
from collections.abc import Collection, Mapping

from cluster.link import GroupIs


def claim_fault(said: GroupIs, host: str, pods: Mapping[str, Collection[str]], owners: Mapping[str, str]) -> str:
    """What is wrong with a greeting; "" if nothing.

    host: the address that the link comes from; one of loopback is that of a proxy in this pod, and says nothing.
    pods: addresses of the routers' pods by name, as far as they are known; without any, addresses are not judged.
    owners: worker -> the pod that it is recorded for.
    """
    for worker in said.workers:
        owner = owners.get(worker, said.pod)
        if owner != said.pod:
            return f"worker {worker} is of router {owner}, not of {said.pod or 'one without a name'}"
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
