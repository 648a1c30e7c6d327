"""The two processes of a cluster deployment: router, control."""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from scorefront.cli.arguments import AccessLogChoice, address, checked_name, port_number, state_dir, tls_pairs, workers
from scorefront.cli.client import checked_url
from scorefront.cli.command_errors import InvalidInput
from scorefront.cli.up_command import (
    ControlTlsCert,
    ControlTlsKey,
    Logged,
    TlsCert,
    TlsKey,
    TlsRedirect,
    redirect_address,
)
from serving.endpoint import VersionKey

Listen = Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients score.")]
Admin = Annotated[str, typer.Option("--admin", metavar="HOST:PORT", help="/healthz, /readyz, /metrics.")]
RouterWorkers = Annotated[
    str, typer.Option("--workers", metavar="N|auto", help="Worker processes; auto: set by the leader.")
]
PeersDir = Annotated[
    Path,
    typer.Option("--peers-dir", metavar="DIR", help="ca.crt, tls.crt and tls.key, for links with other pods."),
]
PeerAddress = Annotated[
    str,
    typer.Option(
        "--peer-address",
        metavar="HOST",
        envvar="POD_IP",
        help="The address of this pod, where the workers of other routers connect.",
        show_default=False,
    ),
]
PeerPorts = Annotated[
    str | None,
    typer.Option(
        "--peer-ports",
        metavar="LOW-HIGH",
        help="Ports for them, one for each worker and as many again for restarts; else the system chooses.",
        show_default=False,
    ),
]
KeptDir = Annotated[
    Path, typer.Option("--state-dir", metavar="DIR", help="Where what is known is kept, for a start without the API.")
]
InflightDir = Annotated[
    Path | None,
    typer.Option(
        "--inflight-dir",
        metavar="DIR",
        help="Memory-backed folder shared with `report-exits`, for the requests in flight; else memory of the process.",
        show_default=False,
    ),
]
RingsDir = Annotated[
    Path,
    typer.Option("--rings-dir", metavar="DIR", help="Memory-backed folder shared with `collector`, for payloads."),
]
SharedInflightDir = Annotated[
    Path, typer.Option("--inflight-dir", metavar="DIR", help="The folder given to the router.")
]

Rest = Annotated[
    str,
    typer.Option("--control", metavar="HOST:PORT", help="REST, dashboard, health; on standbys passed to the leader."),
]
Link = Annotated[str, typer.Option("--link", metavar="HOST:PORT", help="Where the routers connect to the leader.")]
Advertise = Annotated[
    str,
    typer.Option(
        "--advertise",
        metavar="HOST",
        envvar="POD_IP",
        help="The address of this pod, by which routers and standbys reach it.",
        show_default=False,
    ),
]
OwnPeersDir = Annotated[
    Path | None,
    typer.Option(
        "--peers-dir",
        metavar="DIR",
        help="ca.crt, tls.crt and tls.key of one's own; else they are made, and kept in Secrets.",
        show_default=False,
    ),
]
ScoringUrl = Annotated[
    str,
    typer.Option(
        "--scoring-url",
        metavar="URL",
        help="How clients reach the routers; else the Service of this namespace.",
        show_default=False,
    ),
]


def router(
    listen: Listen = "[::]:8080",
    admin: Admin = "[::]:8082",
    worker_count: RouterWorkers = "auto",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_redirect: TlsRedirect = None,
    access_log: Logged = AccessLogChoice.ERRORS,
    peers_dir: PeersDir = Path("/etc/scorefront/peers"),
    peer_address: PeerAddress = "",
    peer_ports: PeerPorts = None,
    state: KeptDir = Path("/var/lib/scorefront"),
    inflight: InflightDir = None,
    rings: Annotated[
        Path | None,
        typer.Option(
            "--rings-dir",
            metavar="DIR",
            help="Memory-backed folder shared with `collector`, for collected payloads; else none are collected.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run one router of a cluster: it follows the Kubernetes API, and shares replicas exactly with the other routers.

    In a pod, POD_NAME, POD_UID and POD_IP identify it. SCOREFRONT_NAMESPACES lists the namespaces of endpoints.

    \b
    On one machine, use instead:
      scorefront up -f examples/iris/endpoint.yaml
    """
    listen_at, admin_at = address("--listen", listen), address("--admin", admin)
    if listen_at == admin_at and listen_at[1] != 0:
        raise InvalidInput(f"--listen and --admin: must differ; both are {listen}")
    redirect_at = redirect_address(tls_redirect, bool(tls_cert), (listen_at, admin_at))
    if not peer_address:
        raise InvalidInput("--peer-address: must be this machine's address, unless the environment has POD_IP")
    count, tls, ports = workers(worker_count), tls_pairs(tls_cert or [], tls_key or []), _ports(peer_ports)

    from scorefront.router.router_process import RouterOptions, run  # late: only this command needs it

    options = RouterOptions(
        listen=listen_at,
        admin=admin_at,
        peers_dir=peers_dir.absolute(),
        peer_address=peer_address,
        state_dir=state_dir(state),
        pod=os.environ.get("POD_NAME") or socket.gethostname(),
        pod_uid=os.environ.get("POD_UID", ""),
        peer_ports=ports,
        workers=count,
        tls=tls,
        tls_redirect=redirect_at,
        access_log=access_log.value,
        inflight_dir=inflight.absolute() if inflight is not None else None,
        rings_dir=rings.absolute() if rings is not None else None,
    )
    raise typer.Exit(run(options))


def report_exits(inflight: SharedInflightDir = Path("/run/inflight")) -> None:
    """Report the sudden end of the router in this pod, with its requests in flight; a container beside the router's.

    POD_NAME identifies the pod.
    """
    from scorefront.router.exit_reporter import ReporterOptions, run  # late: only this command needs it

    pod = os.environ.get("POD_NAME") or socket.gethostname()
    raise typer.Exit(run(ReporterOptions(inflight.absolute(), pod)))


def collector(
    rings: RingsDir = Path("/run/rings"),
    store: Annotated[
        str, typer.Option("--store", metavar="URL", envvar="SCOREFRONT_STORE", help="Where collected data is kept.")
    ] = "",
    instance: Annotated[
        str, typer.Option("--instance", metavar="NAME", envvar="POD_NAME", help="Its part of the names of files.")
    ] = "",
    parts: Annotated[
        Path | None, typer.Option("--parts-dir", metavar="DIR", help="For files on their way to an object store.")
    ] = None,
    scripts_port: Annotated[
        int | None,
        typer.Option("--scripts-port", metavar="PORT", help="Take data of scripts on 127.0.0.1.", min=1, max=65535),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="ENDPOINT/VERSION", help="The version whose scripts send data."),
    ] = None,
    scripts_fd: Annotated[int | None, typer.Option("--scripts-fd", hidden=True)] = None,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
) -> None:
    """Store the collected payloads of the router in this pod, as a container beside the router's; or the data of the
    scripts in a pod of a model, as a container there. Without a store, payloads are dropped and counted.
    """
    from scorefront.collector.collector_process import CollectorOptions, run  # late: only this command needs it

    name = instance or socket.gethostname()
    options = CollectorOptions(
        rings_dir=rings.absolute(),
        store=store,
        instance=name,
        parts_dir=parts.absolute() if parts is not None else None,
        scripts_fd=scripts_fd,
        scripts_port=scripts_port,
        version=_version(version),
        with_parent=with_parent,
    )
    raise typer.Exit(run(options))


def _version(text: str | None) -> VersionKey | None:
    if text is None:
        return None
    endpoint, slash, version = text.partition("/")
    if not slash or checked_name(endpoint) is None or checked_name(version) is None:
        raise InvalidInput(f"--version: must be ENDPOINT/VERSION; got {text!r}")
    return VersionKey(endpoint, version)


def _ports(text: str | None) -> range:
    """LOW-HIGH, both included; 0 alone: chosen by the system."""
    if text is None:
        return range(1)
    low, dash, high = text.partition("-")
    first = port_number("--peer-ports", low)
    last = port_number("--peer-ports", high) if dash else first
    if not 0 < first <= last:
        raise InvalidInput(f"--peer-ports: must be LOW-HIGH, 1 to 65535, the lower one first; got {text!r}")
    return range(first, last + 1)


def control(
    rest: Rest = "[::]:8081",
    link: Link = "[::]:8083",
    advertise: Advertise = "",
    peers_dir: OwnPeersDir = None,
    tls_cert: ControlTlsCert = None,
    tls_key: ControlTlsKey = None,
    scoring_url: ScoringUrl = "",
) -> None:
    """Run the control plane of a cluster: declares, scales, answers REST. Of several, one leads; the others stand by.

    In a pod, POD_NAME and POD_IP identify it. SCOREFRONT_NAMESPACES lists the namespaces of endpoints. SCOREFRONT_TOKEN
    is the control token; default: the Secret scorefront-control-token. REST uses HTTPS, with a certificate of the
    installation's own authority unless a --control-tls-cert matches the requested name.

    \b
    On one machine, use instead:
      scorefront up -f examples/iris/endpoint.yaml
    """
    rest_at, link_at = address("--control", rest), address("--link", link)
    if rest_at == link_at and rest_at[1] != 0:
        raise InvalidInput(f"--control and --link: must differ; both are {rest}")
    if not advertise:
        raise InvalidInput("--advertise: must be this machine's address, unless the environment has POD_IP")
    address("--advertise", f"[{advertise}]:0" if ":" in advertise else f"{advertise}:0")
    url = checked_url(scoring_url, "--scoring-url") if scoring_url else ""

    from scorefront.control.control_process import ControlOptions, run  # late: only this command needs it

    options = ControlOptions(
        control=rest_at,
        link=link_at,
        advertise=advertise,
        peers_dir=peers_dir.absolute() if peers_dir is not None else None,
        tls=tls_pairs(tls_cert or [], tls_key or [], "--control-tls"),
        scoring_url=url,
    )
    raise typer.Exit(run(options))
