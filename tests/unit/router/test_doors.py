"""Ports at which workers of other machines come in."""

import pytest

from router.doors import DoorError, Doors, address_of


def test_the_system_chooses_a_port_for_every_worker() -> None:
    doors = Doors("127.0.0.1")
    with doors.open() as one, doors.open() as other:
        assert address_of(one) != address_of(other)
        assert address_of(one).startswith("127.0.0.1:")


def test_of_a_range_the_first_port_that_is_free_is_taken_and_none_is_an_error() -> None:
    with Doors("127.0.0.1").open() as taken, Doors("127.0.0.1").open() as free:
        ports = (taken.getsockname()[1], free.getsockname()[1])
    with Doors("127.0.0.1", ports[:1]).open(), Doors("127.0.0.1", ports).open() as door:
        assert door.getsockname()[1] == ports[1]
        with pytest.raises(DoorError, match=r"127\.0\.0\.1"):
            Doors("127.0.0.1", ports).open()


def test_a_host_that_is_not_ours_is_an_error() -> None:
    with pytest.raises(DoorError):
        Doors("192.0.2.1").open()
