"""Check of the declared addresses of static replicas against the rules of the installation; names excepted. Pure."""

from collections.abc import Callable

from serving.destinations import Address, Destinations, literal
from serving.endpoint import Endpoint, ReplicaKind
from serving.faults import Fault, written


def static_faults(
    endpoint: Endpoint, allowed: Destinations, is_own: Callable[[Address, int], bool] = lambda address, port: False
) -> list[Fault]:
    """Every fault of the declared addresses. Names are checked at connection time, by their address of that time.

    `allowed`: destinations that the installation allows. `is_own`: true for the installation's own addresses.
    """
    faults = []
    for index, version in enumerate(endpoint.versions):
        if version.replica.kind is not ReplicaKind.STATIC:
            continue
        at = ("spec", "versions", index, "replica", "static")
        if allowed.off:
            faults.append(Fault(written(at), ", ".join(version.replica.static[:3]), allowed.off))
            continue
        for number, text in enumerate(version.replica.static):
            host, _, port = text.rpartition(":")
            host = host.strip("[]")
            if literal(host) is not None and (refusal := allowed.refusal(host, int(port), is_own)):
                faults.append(Fault(written((*at, number)), text, refusal))
    return faults
