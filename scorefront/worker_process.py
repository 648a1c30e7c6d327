"""The process of one router worker: `python -m scorefront.worker_process router-worker …`. Started by the
supervisor only.
"""

import argparse
import datetime
import gc
import logging
import os
import socket
import sys
import time
from pathlib import Path

from router.accesslog import AccessLogMode
from router.core.ids import kept_client_id
from router.inflight_table import InflightTable
from router.peers.peer_identity import trust_from_folder
from router.proxy.static_addresses import StaticAddresses
from router.proxy.tls import CertificatePair, Certificates, TlsError
from router.settings import SettingError, from_environment, issuer_hosts_allowed
from router.worker.router_worker import WorkerOptions, run
from scorefront.process.event_loop import use_fast_loop
from scorefront.process.process_hardening import keep_memory_private
from scorefront.process.process_log import RecordFormatter, Relay, RelayHandler
from scorefront.process.time_slices import shorten_slices
from serving.destinations import LOOPBACK, Destinations, networks
from telemetry.payload_observer import PayloadObservers
from telemetry.request_recorder import RecordRules
from telemetry.ring import DEFAULT_BYTES
from telemetry.trace_context import Sampler
from telemetry.worker_observers import WorkerObservers


def main() -> int:
    """Parse the arguments of the supervisor, take over the sockets, serve."""
    parser = argparse.ArgumentParser(prog="scorefront-router-worker")
    parser.add_argument("role", choices=["router-worker"])
    parser.add_argument("--name", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--link-fd", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--inflight-fd", type=int, required=True)
    parser.add_argument("--redirect-fd", type=int)
    parser.add_argument("--peers-fd", type=int)
    parser.add_argument("--peers-dir", type=Path, help="ca.crt, tls.crt and tls.key, for peers on other machines")
    parser.add_argument("--rings-dir", type=Path, help="folder of the rings for collected payloads")
    parser.add_argument("--ring-bytes", type=int, default=DEFAULT_BYTES)
    parser.add_argument("--request-records", action="store_true", help="of endpoints with telemetry")
    parser.add_argument("--span-share", type=float, help="sampled share of the traces; without it no spans")
    parser.add_argument("--follow-parent", action="store_true", help="sample what the client has sampled")
    parser.add_argument("--static-cidrs", default=None, help="networks of static replicas; else loopback")
    parser.add_argument("--own-ports", default="", help="of this installation on this machine, with commas")
    parser.add_argument("--own-names", default="", help="of its Services, with commas; it is a cluster's then")
    parser.add_argument("--access-log", type=AccessLogMode, default=AccessLogMode.ERRORS)
    parser.add_argument("--tls-cert", type=Path, action="append", default=[])
    parser.add_argument("--tls-key", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    keep_memory_private()
    try:
        settings = from_environment()
        hosts = issuer_hosts_allowed(os.environ, in_cluster=bool(arguments.own_names))
        pairs = [CertificatePair(cert, key) for cert, key in zip(arguments.tls_cert, arguments.tls_key, strict=True)]
        # Checked by the parent at its start. A certificate that has expired since is served: no service would be worse.
        now = datetime.datetime.now(datetime.UTC)
        certificates = Certificates(pairs, now, even_expired=True) if pairs else None
    except (SettingError, TlsError) as error:
        print(f"scorefront: {error}", file=sys.stderr)
        return 2
    use_fast_loop()
    _collect_seldom()
    # With the usual slices a yield would cost milliseconds on a busy core.
    yield_cpu = os.sched_yield if settings.short_slices and shorten_slices() else _nothing
    relay = Relay(sys.stderr.fileno())
    handler = RelayHandler(relay.fd)
    handler.setFormatter(RecordFormatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    sys.unraisablehook = _log_unraisable
    run(
        WorkerOptions(
            name=arguments.name,
            listen=socket.socket(fileno=arguments.listen_fd),
            link=socket.socket(fileno=arguments.link_fd),
            settings=settings,
            access_log=arguments.access_log,
            log_fd=relay.fd,
            logs_dropped=lambda: handler.dropped,
            certificates=certificates,
            redirect=_socket(arguments.redirect_fd),
            address=arguments.address,
            door=_socket(arguments.peers_fd),
            trust=trust_from_folder(arguments.peers_dir) if arguments.peers_dir is not None else None,
            flights=InflightTable(arguments.inflight_fd),
            statics=_statics(arguments.static_cidrs, arguments.own_ports, arguments.own_names),
            issuer_hosts=hosts,
            observers=_observers(arguments),
            yield_cpu=yield_cpu,
        )
    )
    relay.close()
    return 0


def _observers(arguments: argparse.Namespace) -> WorkerObservers | None:
    """The makers of observers; None without a folder of rings."""
    if arguments.rings_dir is None:
        return None
    wall = time.time  # noqa: TID251 - a shell
    payloads = PayloadObservers(arguments.rings_dir, arguments.name, arguments.ring_bytes, wall)
    if arguments.span_share is None and not arguments.request_records:
        return WorkerObservers(payloads, None)
    sampler = Sampler(arguments.follow_parent, arguments.span_share) if arguments.span_share is not None else None
    rules = RecordRules(sampler, arguments.request_records, wall, os.urandom, kept_client_id)
    return WorkerObservers(payloads, rules)


def _statics(cidrs: str | None, ports: str, names: str) -> StaticAddresses:
    """The rules for static replicas; networks were checked by the parent. Raises NotANetwork."""
    allowed = LOOPBACK if cidrs is None else networks(cidrs)
    destinations = Destinations(allowed, in_cluster=bool(names))
    return StaticAddresses(
        destinations, [int(port) for port in ports.split(",") if port], names.split(",") if names else ()
    )


def _nothing() -> None:
    """No yield."""


def _collect_seldom() -> None:
    """Freeze loaded objects and collect rarely: requests leave no reference cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _log_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Log unraisable errors; the default hook writes to standard error, which may block."""
    if isinstance(unraisable.exc_value, UnicodeDecodeError) and isinstance(unraisable.object, bytes):
        return  # a server name in a TLS handshake that is not ASCII; that the handshake failed is counted
    logging.getLogger("scorefront.router").error("ignored: %r in %r", unraisable.exc_value, unraisable.object)


def _socket(fd: int | None) -> socket.socket | None:
    return socket.socket(fileno=fd) if fd is not None else None


if __name__ == "__main__":
    sys.exit(main())
