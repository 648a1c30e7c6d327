"""A router worker whose peers are on other machines, too: the product's, with links over TCP and certificates.

python -m loadtests.groups.worker router-worker --certificate FOLDER …     started by the supervisor of a group
"""

import argparse
import asyncio
import logging
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from router.accesslog import AccessLogMode
from router.board import Flights
from router.peering import Peering
from router.peers.links import LinkEvents, Links
from router.peers.trust import Trust
from router.proxy.downstream import Downstream
from router.proxy.gateway import Gateway
from router.settings import from_environment
from router.worker import Worker, WorkerOptions
from scorefront.loop import use_fast_loop


class FarPeering(Peering):
    """No connections pass: there is no way between machines."""

    def __init__(self, gateway: Gateway, name: str, adopt: Callable[[bytes], asyncio.Protocol], trust: Trust) -> None:
        super().__init__(gateway, name, adopt)
        self._links = Links(name, LinkEvents(self._up, self._down, self._hear), random.random, trust)  # noqa: TID251

    def open(self, address: str) -> None:
        """Let peers come. Raises AddressError, TrustError, OSError."""
        self._links.listen(address)


class FarWorker(Worker):
    """The product's worker but for that."""

    def __init__(self, options: WorkerOptions, trust: Trust) -> None:
        super().__init__(options)
        self._peering = FarPeering(self.gateway, options.name, lambda read: Downstream(self.gateway, read), trust)


def main() -> None:
    """Parse what the supervisor appended, take over the sockets, serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["router-worker"])
    parser.add_argument("--certificate", type=Path, required=True, help="a folder with cert.pem and key.pem")
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--link-fd", type=int, required=True)
    parser.add_argument("--board-fd", type=int, required=True)
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
        flights=Flights(arguments.board_fd),
    )
    # One certificate for all of them, which is its own authority.
    asyncio.run(_serve(options, Trust(cert, cert, key)))


async def _serve(options: WorkerOptions, trust: Trust) -> None:
    await FarWorker(options, trust).run()


if __name__ == "__main__":
    main()
