"""Hosts and ports in writing."""

import pytest

from serving.authority import authority, unmapped


@pytest.mark.parametrize(
    ("host", "written"), [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80"), ("model.local", "model.local:80")]
)
def test_an_ipv6_address_is_in_brackets_before_its_port(host: str, written: str) -> None:
    assert authority(host, 80) == written


@pytest.mark.parametrize(
    ("host", "peer"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1"), ("fd00::1", "fd00::1"), ("::ffff:0:1", "::ffff:0:1")],
)
def test_a_peer_of_ipv4_has_its_address_in_that_form(host: str, peer: str) -> None:
    assert unmapped(host) == peer
