"""Placement of a generator's connections on the workers that share a listening socket."""

import contextlib
import socket
from collections.abc import Iterator
from enum import StrEnum

from loadtests.crew import Worker, alone, clients, known, owner
from loadtests.http1 import exchange_blocking
from loadtests.openloop import Generator
from loadtests.peers.rig import Target
from loadtests.peers.scorefront import KEY

CONNECTIONS = 160
"""More than ever wait at once in these measurements; a further one would be anybody's."""


class Place(StrEnum):
    """The workers that get the clients."""

    ALL = "all"
    """Every one as many as the others."""
    OWNER = "owner"
    """Only the one that grants the slots: nobody has to ask."""
    BORROWER = "borrower"
    """Only one that has to ask for every slot."""


def chosen(place: Place, workers: list[Worker]) -> list[Worker]:
    """The workers that get clients."""
    granting = owner(KEY, workers)
    return {
        Place.ALL: workers,
        Place.OWNER: [granting],
        Place.BORROWER: [each for each in workers if each != granting][:1],
    }[place]


@contextlib.contextmanager
def placed(generator: Generator, target: Target, place: Place) -> Iterator[None]:
    """Connect the generator to the chosen workers.

    Workers hand connections to those that have fewer; so those without clients get as many that stay silent.
    """
    workers = known(target.pids)
    busy = chosen(place, workers)
    for worker in busy:
        with alone(worker.pid, target.pids):
            generator.connect(CONNECTIONS // len(busy))
    generator.mix(len(workers))
    with contextlib.ExitStack() as held:
        for worker in workers:
            if worker not in busy:
                with alone(worker.pid, target.pids):
                    _hold(held, target.port, CONNECTIONS)
        yield


def share_of_busiest(generator: Generator, target: Target) -> float:
    """The largest share of the generator's connections on one worker."""
    mine = generator.ports()
    return max((len(mine & clients(each, target.port)) for each in known(target.pids)), default=0) / max(1, len(mine))


def _hold(held: contextlib.ExitStack, port: int, count: int) -> None:
    for _ in range(count):
        sock = held.enter_context(socket.create_connection(("127.0.0.1", port), 5.0))
        exchange_blocking(sock)
