"""Keys of foreign token issuers over HTTP: fetched in the background, kept while the issuer is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from router.worker.issuer_fetcher import IssuerFetcher, fetch_keys
from serving.endpoint import Auth, ForeignIssuer
from tests.fakes.clock import eventually
from tests.fakes.http_server import Answer, ScriptedServer, scripted_server
from tests.integration.router.clients import request
from tests.integration.router.rig import Rig, endpoint
from tests.unit.router.test_foreign_tokens import EC, KEYS, RSA, jwk, key_set, token


@pytest.fixture
def issuer() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        publish(made, "/keys", KEYS)
        yield made


def publish(issuer: ScriptedServer, path: str, document: str) -> None:
    issuer.on(f"GET {path}", Answer(body=document.encode()))


def asked(issuer: ScriptedServer) -> list[str]:
    return [each.path for each in issuer.asked]


def test_keys_are_found_by_the_openid_configuration(issuer: ScriptedServer) -> None:
    source = ForeignIssuer(f"{issuer.url}/", "x").source
    path = "/.well-known/openid-configuration"
    publish(issuer, path, json.dumps({"issuer": f"{issuer.url}/", "jwks_uri": f"{issuer.url}/keys"}))
    assert {key.kid for key in fetch_keys(source)} == {"rsa-1", "ec-1", "ed-1"}
    assert asked(issuer) == [path, "/keys"]


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://evil.example", "jwks_uri": "{url}/keys"},
        {"issuer": "{url}", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "{url}", "jwks_uri": "http://keys.example/"},
        {"issuer": "{url}"},
        [],
    ],
)
def test_a_strange_openid_configuration_is_refused(issuer: ScriptedServer, configuration: object) -> None:
    publish(issuer, "/.well-known/openid-configuration", json.dumps(configuration).replace("{url}", issuer.url))
    with pytest.raises(ValueError):
        fetch_keys(ForeignIssuer(issuer.url, "x").source)
    assert "/keys" not in asked(issuer)


@pytest.mark.parametrize("path", ["/moved", "/none"])
def test_neither_redirects_nor_errors_are_taken_for_keys(issuer: ScriptedServer, path: str) -> None:
    issuer.on("GET /moved", Answer(302, headers={"Location": "/keys"}))
    with pytest.raises(OSError):
        fetch_keys(issuer.url + path)
    assert asked(issuer) == [path]


def test_a_document_without_end_is_cut(issuer: ScriptedServer) -> None:
    publish(issuer, "/keys", " " * 2_000_000)
    with pytest.raises(OSError, match="1000000 bytes"):
        fetch_keys(f"{issuer.url}/keys")


@asynccontextmanager
async def fetching(rig: Rig) -> AsyncIterator[None]:
    fetcher = IssuerFetcher(rig.gateway.table, rig.gateway.now, rig.gateway.tunnels.review_all)
    task = asyncio.create_task(fetcher.run(), name="fetch keys")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_tokens_are_served_with_fetched_keys_also_while_the_issuer_is_away(
    rig: Rig, issuer: ScriptedServer
) -> None:
    good = request(fields=(f"Authorization: Bearer {token(exp=2**40).decode()}",))
    async with fetching(rig):
        foreign = ForeignIssuer("https://login.example/tenant", "api://iris", f"{issuer.url}/keys")
        rig.declare(endpoint(auth=Auth.TOKEN, token_issuers=(foreign,)))
        await rig.replica(slots=4)
        client = await rig.client()
        await eventually(lambda: bool(rig.gateway.table.issuer_keys.keys(foreign.source)))
        assert (await client.ask(good)).status == 200
        issuer.answers.clear()
        rig.gateway.table.issuer_keys.failed(foreign.source, rig.gateway.now() - 60)  # due again
        rig.gateway.table.issuer_keys.on_due()
        await eventually(lambda: asked(issuer).count("/keys") == 2)
        assert (await client.ask(good)).status == 200
        # withdrawn: refused on the same connection
        publish(issuer, "/keys", key_set(jwk(EC, "ec-1")))
        rig.gateway.table.issuer_keys.failed(foreign.source, rig.gateway.now() - 60)
        rig.gateway.table.issuer_keys.on_due()
        await eventually(lambda: len(rig.gateway.table.issuer_keys.keys(foreign.source)) == 1)
        assert (await client.ask(good)).status == 401
        # published again under another id: the unknown id has it fetched
        publish(issuer, "/keys", key_set(jwk(RSA, "rsa-1")))
        assert (await client.ask(good)).status == 401
        assert rig.gateway.table.issuer_keys.next_due() <= rig.gateway.now() + 30
