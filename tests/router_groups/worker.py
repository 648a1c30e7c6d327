"""A router worker with peers on other machines, too: the product's, with links over TCP and certificates.

python -m tests.router_groups.worker router-worker --certificate FOLDER …     started by the supervisor of a group
"""

import argparse
import logging
import socket
import sys
from pathlib import Path

from router.accesslog import AccessLogMode
from router.inflight_table import InflightTable
from router.peers.peer_identity import Trust
from router.proxy.static_addresses import StaticAddresses
from router.settings import from_environment
from router.worker.router_worker import WorkerOptions, run
from scorefront.process.event_loop import use_fast_loop
from serving.destinations import Destinations, networks
from tests.router_groups.network import FRONT


def main() -> None:
    """Parse the arguments of the supervisor, adopt the sockets, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["router-worker"])
    parser.add_argument("--certificate", type=Path, required=True, help="a folder with cert.pem and key.pem")
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--link-fd", type=int, required=True)
    parser.add_argument("--inflight-fd", type=int, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    use_fast_loop()
    cert, key = arguments.certificate / "cert.pem", arguments.certificate / "key.pem"
    options = WorkerOptions(
        name=arguments.name,
        listen=socket.socket(fileno=arguments.listen_fd),
        link=socket.socket(fileno=arguments.link_fd),
        settings=from_environment(),
        access_log=AccessLogMode.OFF,
        log_fd=sys.stderr.fileno(),
        address=arguments.address,
        trust=Trust(cert, cert, key),  # one certificate for all of them, with itself as authority
        flights=InflightTable(arguments.inflight_fd),
        statics=StaticAddresses(Destinations(networks(f"127.0.0.0/8, {FRONT}.0/24"))),
    )
    run(options)


if __name__ == "__main__":
    main()
