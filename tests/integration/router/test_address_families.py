"""A scoring port for both address families, and replicas with an IPv6 address."""

from collections.abc import Awaitable, Callable

import pytest

from serving.destinations import networks
from tests.integration.router.clients import get
from tests.integration.router.replicas import answers
from tests.integration.router.rig import Rig
from tests.unit.router.test_listening import needs_ipv6

Rigs = Callable[..., Awaitable[Rig]]
pytestmark = needs_ipv6


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_port_for_both_families_has_the_address_of_a_client_in_its_usual_form(rigs: Rigs, host: str) -> None:
    rig = await rigs(host="::")
    replica = await rig.replica()
    assert (await (await rig.client(host=host)).ask(get())).status == 200
    assert replica.seen[0].value(b"x-forwarded-for") == host.encode()


async def test_a_trusted_proxy_of_ipv4_is_known_at_a_port_for_both_families(rigs: Rigs) -> None:
    rig = await rigs(host="::", trusted_proxies=networks("127.0.0.0/8"))
    replica = await rig.replica()
    await (await rig.client()).ask(get(fields=("X-Forwarded-Proto: https",)))
    assert replica.seen[0].value(b"x-forwarded-proto") == b"https"


async def test_a_replica_with_an_ipv6_address_is_named_in_brackets(rigs: Rigs) -> None:
    rig = await rigs()
    replica = await rig.replica(host="::1")
    replica.script = answers(b"", "302 Found", (f"Location: http://[::1]:{replica.port}/api/v1/service/iris/x",))
    answer = await (await rig.client()).ask(get())
    assert (answer.status, answer.value("location")) == (302, "/api/v1/service/iris/x")
