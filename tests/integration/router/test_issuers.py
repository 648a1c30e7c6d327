"""Keys of foreign token issuers over HTTP: fetched in the background, kept while the issuer is away."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from router.worker.issuer_fetcher import IssuerFetcher, fetch_keys
from serving.endpoint import Auth, ForeignIssuer
from serving.issuer_hosts import IssuerHosts
from tests.fakes.certificates import Folder, make
from tests.fakes.clock import eventually
from tests.fakes.http_server import Answer, ScriptedServer, scripted_server
from tests.integration.router.clients import request
from tests.integration.router.rig import Rig, endpoint
from tests.unit.router.test_foreign_tokens import EC, KEYS, RSA, jwk, key_set, token

ANY = IssuerHosts()


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
    assert {key.kid for key in fetch_keys(source, ANY)} == {"rsa-1", "ec-1", "ed-1"}
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
        fetch_keys(ForeignIssuer(issuer.url, "x").source, ANY)
    assert "/keys" not in asked(issuer)


@pytest.mark.parametrize("path", ["/moved", "/none"])
def test_neither_redirects_nor_errors_are_taken_for_keys(issuer: ScriptedServer, path: str) -> None:
    issuer.on("GET /moved", Answer(302, headers={"Location": "/keys"}))
    with pytest.raises(OSError):
        fetch_keys(issuer.url + path, ANY)
    assert asked(issuer) == [path]


def test_a_document_without_end_is_cut(issuer: ScriptedServer) -> None:
    publish(issuer, "/keys", " " * 2_000_000)
    with pytest.raises(OSError, match="1000000 bytes"):
        fetch_keys(f"{issuer.url}/keys", ANY)


@pytest.mark.parametrize(
    ("address", "reason"), [("169.254.169.254", "link-local"), ("fd00:ec2::254", "a cloud's metadata service")]
)
def test_a_name_that_resolves_to_a_refused_address_is_not_asked(
    issuer: ScriptedServer, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    def resolve(name: str, port: int, **how: object) -> list[tuple[object, ...]]:
        return [(None, None, 0, "", (found, port)) for found in ("127.0.0.1", address)]

    monkeypatch.setattr("router.worker.issuer_fetcher.socket.getaddrinfo", resolve)
    with pytest.raises(OSError, match=f"localhost: its address {address} is never allowed: it is {reason}"):
        fetch_keys(issuer.url.replace("127.0.0.1", "localhost") + "/keys", ANY)
    assert asked(issuer) == []


def test_keys_are_fetched_from_a_name_at_its_next_address_if_one_is_away(
    issuer: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, tried = socket.create_connection, []

    def first_away(address: tuple[str, int], *how: Any) -> socket.socket:
        tried.append(address[0])
        if len(tried) == 1:
            raise ConnectionRefusedError(111, "Connection refused")
        return connect((address[0], address[1]), *how)

    monkeypatch.setattr(
        "router.worker.issuer_fetcher.permitted_addresses", lambda name, port, hosts: ["127.0.0.2", "127.0.0.1"]
    )
    monkeypatch.setattr("http.client.socket.create_connection", first_away)
    assert len(fetch_keys(issuer.url.replace("127.0.0.1", "localhost") + "/keys", ANY)) == 3
    assert tried == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize("names", [("localhost",), ("other.example",)])
def test_over_tls_the_certificate_must_have_the_name_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    folder = Folder(tmp_path, make(*names))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder.cert, folder.key)
    monkeypatch.setenv("SSL_CERT_FILE", str(folder.cert))
    with scripted_server(context) as server:
        publish(server, "/keys", KEYS)
        if names == ("localhost",):
            assert len(fetch_keys(f"{server.url}/keys", ANY)) == 3
        else:
            with pytest.raises(OSError, match="Hostname mismatch"):
                fetch_keys(f"{server.url}/keys", ANY)


def test_a_list_of_hosts_holds_for_the_uri_of_the_keys_too(issuer: ScriptedServer) -> None:
    elsewhere = issuer.url.replace("127.0.0.1", "localhost")
    configuration = json.dumps({"issuer": issuer.url, "jwks_uri": f"{elsewhere}/keys"})
    publish(issuer, "/.well-known/openid-configuration", configuration)
    with pytest.raises(OSError, match="its host localhost is not in the list of allowed hosts"):
        fetch_keys(ForeignIssuer(issuer.url, "x").source, IssuerHosts(("127.0.0.1",)))
    assert "/keys" not in asked(issuer)


@asynccontextmanager
async def fetching(rig: Rig) -> AsyncIterator[None]:
    fetcher = IssuerFetcher(rig.gateway.table, rig.gateway.now, rig.gateway.tunnels.review_all, ANY)
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
