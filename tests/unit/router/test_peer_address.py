from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import pytest

from router.core.view import Member
from router.peers.address import AddressError, Tcp, Unix, parse_address
from router.peers.peer_identity import covers

GOOD = {
    "unix:/run/scorefront/a": Unix(PurePath("/run/scorefront/a")),
    "10.1.2.3:7000": Tcp("10.1.2.3", 7000),
    "router-0.routers:7000": Tcp("router-0.routers", 7000),
    "[fd00::1]:7000": Tcp("fd00::1", 7000),
    "127.0.0.1:0": Tcp("127.0.0.1", 0),
}


@pytest.mark.parametrize("text", GOOD)
def test_an_address_is_read_and_written_the_same(text: str) -> None:
    assert parse_address(text) == GOOD[text]
    assert str(GOOD[text]) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "unix:", "unix:relative", "unix:/a\0b", "unix:/" + "x" * 100, "10.1.2.3", ":7000", "host:", "host:-1"),
        *("host:65536", "host:7²", "fd00::1:7000", "[host]:7000", "host:70000000000000000000", "host:1_0"),
    ],
)
def test_an_invalid_address_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_address(text)
    assert repr(text) in str(refused.value)


def certificate(*names: tuple[str, str]) -> Mapping[str, Any]:
    return {"subject": ((("commonName", "worker-1"),),), "subjectAltName": names}


@pytest.mark.parametrize(
    ("names", "address"),
    [
        ([("DNS", "Worker-1")], "10.0.0.7:1"),
        ([("DNS", "other"), ("DNS", "worker-1")], "unix:/run/a"),
        ([("IP Address", "10.0.0.7")], "10.0.0.7:1"),
        ([("IP Address", "FD00:0:0:0:0:0:0:7")], "[fd00::7]:1"),
        ([("DNS", "pod-7.routers")], "pod-7.routers:1"),
        ([("DNS", "worker-1")], "an address of another time"),
    ],
)
def test_a_certificate_covers_a_member_by_its_name_or_the_host_of_its_address(
    names: list[tuple[str, str]], address: str
) -> None:
    assert covers(certificate(*names), Member("worker-1", address))


@pytest.mark.parametrize(
    ("names", "address"),
    [
        ([], "10.0.0.7:1"),  # a common name does not count
        ([("DNS", "worker-2"), ("IP Address", "10.0.0.8")], "10.0.0.7:1"),
        ([("DNS", "*"), ("DNS", "*.routers")], "pod-7.routers:1"),
        ([("email", "worker-1")], "10.0.0.7:1"),
    ],
)
def test_a_certificate_for_another_or_for_many_names_covers_no_member(
    names: list[tuple[str, str]], address: str
) -> None:
    assert not covers(certificate(*names), Member("worker-1", address))
