"""The command that runs everything on one machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from scorefront.cli.arguments import (
    AccessLogChoice,
    address,
    control_address,
    state_dir,
    store_url,
    tls_pairs,
    workers,
)
from scorefront.cli.command_errors import InvalidInput
from scorefront.cli.manifest_files import read_manifests

TlsPairs = tuple[tuple[Path, Path], ...]

Manifests = Annotated[
    list[str] | None,
    typer.Option(
        "-f",
        "--file",
        metavar="FILE",
        help="A manifest to start with; repeatable. Endpoints of the last run come back by themselves.",
        show_default=False,
    ),
]
StateDir = Annotated[Path, typer.Option("--state-dir", metavar="DIR", help="Where endpoints, keys and logs are kept.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help="Where models and snapshots are kept: a folder of this user alone, s3://BUCKET/FOLDER, "
        "abfs://CONTAINER/FOLDER or gs://BUCKET/FOLDER. Default: DIR/store.",
        show_default=False,
    ),
]
Listen = Annotated[
    str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients score; port 0 lets the system choose.")
]
Control = Annotated[
    str,
    typer.Option(
        "--control",
        metavar="HOST:PORT|unix:PATH",
        help="REST, dashboard, health and metrics. On loopback and on a Unix socket it answers you and root; beyond "
        "this machine it demands the token in DIR/control-token.",
    ),
]
ControlToken = Annotated[
    bool, typer.Option("--control-token", help="Demand the token in DIR/control-token on this machine, too.")
]
ControlTlsCert = Annotated[
    list[Path] | None,
    typer.Option(
        "--control-tls-cert",
        metavar="FILE",
        help="Serve --control as HTTPS with this certificate chain (PEM); repeatable.",
        show_default=False,
    ),
]
ControlTlsKey = Annotated[
    list[Path] | None,
    typer.Option(
        "--control-tls-key", metavar="FILE", help="The key of each --control-tls-cert, in order.", show_default=False
    ),
]
ControlInsecure = Annotated[
    bool,
    typer.Option(
        "--control-insecure",
        help="Allow a --control beyond this machine without TLS: token and keys cross the network in clear.",
    ),
]
WorkerCount = Annotated[
    str, typer.Option("--workers", metavar="N|auto", help="Router worker processes; auto: as many as the load needs.")
]
TlsCert = Annotated[
    list[Path] | None,
    typer.Option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain (PEM); repeatable."),
]
TlsKey = Annotated[
    list[Path] | None, typer.Option("--tls-key", metavar="FILE", help="The key of each --tls-cert, in order.")
]
TlsRedirect = Annotated[
    str | None,
    typer.Option(
        "--tls-redirect",
        metavar="HOST:PORT",
        help="Also listen here without TLS, and send every client to --listen (308); needs --tls-cert.",
        show_default=False,
    ),
]
Logged = Annotated[AccessLogChoice, typer.Option("--access-log", help="Which scoring requests to log.")]


def up(
    files: Manifests = None,
    state: StateDir = Path(".scorefront"),
    store: Store = None,
    listen: Listen = "127.0.0.1:8080",
    control: Control = "127.0.0.1:8081",
    control_token: ControlToken = False,
    control_tls_cert: ControlTlsCert = None,
    control_tls_key: ControlTlsKey = None,
    control_insecure: ControlInsecure = False,
    worker_count: WorkerCount = "auto",
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_redirect: TlsRedirect = None,
    access_log: Logged = AccessLogChoice.ERRORS,
) -> None:
    """Run the router, the autoscaler, the control plane and your models on this machine, in the foreground.

    It prints the scoring URL, a key and a curl line once the models are ready. Ctrl-C ends everything it started.

    \b
    Examples:
      scorefront up -f examples/iris/endpoint.yaml
      scorefront up --listen 0.0.0.0:8080 --state-dir /var/lib/scorefront
    """
    listen_at, control_at = _addresses(listen, control)
    redirect_at = redirect_address(
        tls_redirect, bool(tls_cert), [at for at in (listen_at, control_at) if isinstance(at, tuple)]
    )
    count = workers(worker_count)
    tls = tls_pairs(tls_cert or [], tls_key or [])
    own_tls = tls_pairs(control_tls_cert or [], control_tls_key or [], "--control-tls")
    control_tls = _control_tls(control_at, own_tls, tls, control_insecure)
    folder = state_dir(state)
    store_at = "" if store is None else store_url(store)
    documents = _documents(files or [])

    from scorefront.up.installation import UpOptions, run  # late: only this command needs servers

    options = UpOptions(
        documents=documents,
        state_dir=folder,
        listen=listen_at,
        control=control_at,
        control_token=control_token,
        control_tls=control_tls,
        workers=count,
        tls=tls,
        tls_redirect=redirect_at,
        access_log=access_log.value,
        store=store_at,
    )
    raise typer.Exit(run(options))


def _addresses(listen: str, control: str) -> tuple[tuple[str, int], tuple[str, int] | Path]:
    """Addresses for scoring and control; port 0 twice means two ports."""
    listen_at, control_at = address("--listen", listen), control_address("--control", control)
    if listen_at == control_at and listen_at[1] != 0:
        raise InvalidInput(f"--listen and --control: must differ; both are {listen}")
    return listen_at, control_at


def _control_tls(control: tuple[str, int] | Path, own: TlsPairs, scoring: TlsPairs, insecure: bool) -> TlsPairs:
    """Certificate and key files of the control port; none: plain HTTP.

    control: its address, or the path of a Unix socket.
    own: those of --control-tls-cert. scoring: those of --tls-cert, used if TLS is demanded and `own` is empty.
    insecure: plain HTTP is allowed beyond this machine.
    Raises InvalidInput.
    """
    if own and insecure:
        raise InvalidInput("--control-insecure: contradicts --control-tls-cert; give one of them")
    if isinstance(control, Path):
        if own:
            raise InvalidInput(f"--control-tls-cert: a Unix socket has no TLS; got --control unix:{control}")
        return ()
    from controlplane.rest_guard import is_loopback  # late: it loads a web server

    if own or insecure or is_loopback(control[0]):
        return own
    if not scoring:
        raise InvalidInput(
            f"--control: {control[0]} is beyond this machine and needs TLS: give --control-tls-cert and"
            " --control-tls-key (or --tls-cert and --tls-key, which serve both ports), or --control-insecure for plain"
            " HTTP"
        )
    return scoring


def redirect_address(text: str | None, with_tls: bool, taken: Sequence[tuple[str, int]]) -> tuple[str, int] | None:
    """Address of the redirect to TLS; None without one."""
    if text is None:
        return None
    redirect_at = address("--tls-redirect", text)
    if not with_tls:
        raise InvalidInput("--tls-redirect: needs --tls-cert and --tls-key, since there is nothing to send clients to")
    if redirect_at in taken and redirect_at[1] != 0:
        raise InvalidInput(f"--tls-redirect: must differ from --listen and --control; got {text}")
    return redirect_at


def _documents(files: Sequence[str]) -> tuple[tuple[str, dict[str, Any]], ...]:
    """(file name, manifest) of each."""
    return tuple((manifest.source, manifest.document) for manifest in read_manifests(files))
