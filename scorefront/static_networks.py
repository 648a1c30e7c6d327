"""Networks of static replicas: the setting SCOREFRONT_STATIC_CIDRS."""

import os
import socket
from collections.abc import Mapping, Sequence

from router.settings import SettingError
from serving.destinations import LOOPBACK, SETTING, Destinations, NotANetwork, networks

SERVICES = ("scorefront", "scorefront-control", "scorefront-admin")
API_SERVER = "kubernetes.default.svc"
API_HOST = "KUBERNETES_SERVICE_HOST"


def destinations(environment: Mapping[str, str], in_cluster: bool) -> Destinations:
    """The allowed networks; default: loopback on one machine, none in a cluster. Raises SettingError."""
    text = environment.get(SETTING)
    if text is None:
        return Destinations(() if in_cluster else LOOPBACK, in_cluster)
    try:
        return Destinations(networks(text), in_cluster)
    except NotANetwork as error:
        raise SettingError(str(error)) from None


def worker_arguments(allowed: Destinations, own_ports: Sequence[int] = (), own_names: Sequence[str] = ()) -> list[str]:
    """Arguments of a router worker.

    `allowed`: networks of static replicas. `own_ports`: ports of this installation on this machine; default none.
    `own_names`: host names and addresses of its Services and of the API server in a cluster; default none.
    """
    arguments = [f"--static-cidrs={','.join(map(str, allowed.networks))}"]
    arguments += [f"--own-ports={','.join(map(str, own_ports))}"] if own_ports else []
    return arguments + ([f"--own-names={','.join(own_names)}"] if own_names else [])


def own_names(home: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Host names and addresses of this installation and of the API server. `home`: its namespace."""
    names = [*(f"{service}.{home}.svc" for service in SERVICES), API_SERVER]
    return names + ([environment[API_HOST]] if environment.get(API_HOST) else [])


def ports_of(*sockets: socket.socket | None) -> list[int]:
    """The TCP ports that these listen on."""
    inet = (socket.AF_INET, socket.AF_INET6)
    return [int(each.getsockname()[1]) for each in sockets if each is not None and each.family in inet]
