"""Ports for workers of other machines."""

import pytest

from router.supervisor.peer_ports import PeerPortError, PeerPorts, address_of


def test_the_system_chooses_a_port_for_every_worker() -> None:
    peer_ports = PeerPorts("127.0.0.1")
    with peer_ports.open() as one, peer_ports.open() as other:
        assert address_of(one) != address_of(other)
        assert address_of(one).startswith("127.0.0.1:")


def test_of_a_range_the_first_port_that_is_free_is_taken_and_none_is_an_error() -> None:
    with PeerPorts("127.0.0.1").open() as taken, PeerPorts("127.0.0.1").open() as free:
        ports = (taken.getsockname()[1], free.getsockname()[1])
    with PeerPorts("127.0.0.1", ports[:1]).open(), PeerPorts("127.0.0.1", ports).open() as door:
        assert door.getsockname()[1] == ports[1]
        with pytest.raises(PeerPortError, match=r"127\.0\.0\.1"):
            PeerPorts("127.0.0.1", ports).open()


def test_a_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(PeerPortError):
        PeerPorts("192.0.2.1").open()
