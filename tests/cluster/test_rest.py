"""REST in a cluster: the API server judges Kubernetes tokens, and the control token can be replaced."""

import base64
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from loadtests.installation import manifest
from tests.cluster.accounts import account, bind
from tests.cluster.played.kube import MERGE, Kube, Object
from tests.cluster.played.patience import until, until_so
from tests.cluster.played.site import HOME, REST_PORT, Site

NAMESPACE = "rest"
IN_FORCE_S, REPLACED_S = 30.0, 90.0
TOKEN_SECRET = f"/api/v1/namespaces/{HOME}/secrets/scorefront-control-token"
DEPLOYMENTS: list[Object] = [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"]}]


class Rest:
    """The REST API of the installation, as callers with different tokens see it."""

    def __init__(self, site: Site, session: aiohttp.ClientSession, tokens: dict[str, str]) -> None:
        """`tokens`: name of a service account -> its token."""
        self._site = site
        self._session = session
        self.tokens = tokens

    async def _pods(self) -> list[Object]:
        return sorted(await self._site.controls(), key=lambda pod: str(pod["metadata"]["name"]))

    async def name(self, instance: int) -> str:
        """Name of a control pod."""
        return str((await self._pods())[instance]["metadata"]["name"])

    async def ask(self, who: str, method: str, path: str, body: Any = None, instance: int = 0) -> tuple[int, Any]:
        """Status and JSON or text. `who`: a service account or a token. `instance`: control pod."""
        pod = (await self._pods())[instance]
        url = f"https://{pod['status']['podIP']}:{REST_PORT}{path}"
        header = {"Authorization": f"Bearer {self.tokens.get(who, who)}"}
        async with self._session.request(method, url, json=body, headers=header) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rest(site: Site, kube: Kube) -> AsyncIterator[Rest]:
    """Service accounts: a viewer, an editor, one that may create Deployments besides, one without rights."""
    await kube.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    try:
        rules: dict[str, list[Object]] = {"viewer": [], "editor": [], "deployer": DEPLOYMENTS, "nobody": []}
        tokens = {who: await account(kube, NAMESPACE, who, of) for who, of in rules.items()}
        for who, role in (("viewer", "viewer"), ("editor", "editor"), ("deployer", "editor")):
            await bind(kube, NAMESPACE, who, f"scorefront-{role}")
        secret = await kube.get(f"/api/v1/namespaces/{HOME}/secrets/scorefront-peers")
        trusted = ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())
        trusted.check_hostname = False  # pods are asked at their addresses
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:
            made = Rest(site, session, tokens)

            async def in_force() -> bool:
                try:
                    status, _ = await made.ask("deployer", "PUT", path("callers-one"), endpoint(site, "callers-one"))
                except aiohttp.ClientConnectorCertificateError:
                    return False  # control starts with a self-signed certificate, until the authority has signed one
                return status == 201

            await until(in_force, "rights", IN_FORCE_S)
            yield made
    finally:
        await site.remove("callers-one", NAMESPACE)
        await kube.delete(f"/api/v1/namespaces/{NAMESPACE}")


def path(name: str, rest: str = "") -> str:
    return f"/api/v1/endpoints/{name}{rest}"


def endpoint(site: Site, name: str, namespace: str = NAMESPACE, **fields: Any) -> Object:
    document = manifest(name, [site.version(work_ms=5, numReplicas=1, **fields)])
    return {**document, "metadata": {"name": name, "namespace": namespace}}


@pytest.mark.parametrize("instance", [0, 1])
async def test_a_viewer_sees_endpoints_of_its_namespace_and_no_key(rest: Rest, site: Site, instance: int) -> None:
    await site.apply("callers-home", site.version(numReplicas=1))
    try:
        status, shown = await rest.ask("viewer", "GET", "/api/v1/endpoints", instance=instance)
        assert status == 200
        assert "callers-one" in str(shown) and "callers-home" not in str(shown)
        assert (await rest.ask("viewer", "GET", path("callers-one"), instance=instance))[0] == 200
        for method, rest_of_path, body in (
            ("GET", "/keys", None),
            ("POST", "/keys/regenerate", {"keyType": "primary"}),
            ("POST", "/token", None),
            ("PATCH", "/traffic", {"percentiles": {"blue": 50}}),
            ("DELETE", "", None),
        ):
            status, told = await rest.ask("viewer", method, path("callers-one", rest_of_path), body, instance)
            assert (status, told["error"]["code"]) == (403, "Forbidden"), (method, rest_of_path)
        assert (await rest.ask("viewer", "GET", path("callers-home"), instance=instance))[0] == 403
    finally:
        await site.remove("callers-home")  # the next test declares it again


@pytest.mark.parametrize("instance", [0, 1])
async def test_an_editor_reads_keys_and_is_held_to_its_rights_on_deployments(
    rest: Rest, site: Site, instance: int
) -> None:
    status, keys = await rest.ask("editor", "GET", path("callers-one", "/keys"), instance=instance)
    assert status == 200
    assert keys["primaryKey"] == await site.key("callers-one", namespace=NAMESPACE)
    body = endpoint(site, f"callers-on{instance}")
    status, told = await rest.ask("editor", "PUT", path(f"callers-on{instance}"), body, instance)
    assert status == 403 and "create deployments.apps" in told["error"]["message"]
    assert (await rest.ask("deployer", "PUT", path(f"callers-on{instance}"), body, instance))[0] == 201
    traffic = {"percentiles": {"blue": 50}}
    assert (await rest.ask("editor", "PATCH", path(f"callers-on{instance}", "/traffic"), traffic, instance))[0] == 200
    other = endpoint(site, f"callers-on{instance}", env={"A": "b"})
    assert (await rest.ask("editor", "PUT", path(f"callers-on{instance}"), other, instance))[0] == 403
    assert (await rest.ask("editor", "DELETE", path(f"callers-on{instance}"), instance=instance))[0] == 204


async def test_an_editor_of_one_namespace_declares_nothing_in_another(rest: Rest, site: Site) -> None:
    for namespace in (HOME, "default", "kube-system"):
        body = endpoint(site, "callers-else", namespace)
        status, told = await rest.ask("deployer", "PUT", path("callers-else"), body)
        assert status in (400, 403), told


@pytest.mark.parametrize("instance", [0, 1])
async def test_a_caller_without_rights_or_a_valid_token_is_refused(rest: Rest, site: Site, instance: int) -> None:
    # A standby answers /metrics itself, with figures of its process alone; everything else it passes on.
    leads = await site.holder() == await rest.name(instance)
    metrics = ["/metrics"] if leads else []
    for where in (path("callers-one"), path("callers-one", "/keys"), "/api/v1/front-end/decisions", *metrics):
        assert (where, (await rest.ask("nobody", "GET", where, instance=instance))[0]) == (where, 403)
    wrong = [*(f"{rest.tokens['editor'][:-4]}{end}" for end in ("AAAA", "")), "x" * 40]
    for token in wrong:
        assert (await rest.ask(token, "GET", path("callers-one"), instance=instance))[0] == 401


async def answered(rest: Rest, who: str, status: int, instances: tuple[int, ...] = (0,)) -> bool:
    """True if the endpoint is answered with this status by all these control pods."""
    return {(await rest.ask(who, "GET", path("callers-one"), instance=each))[0] for each in instances} == {status}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def replaced(rest: Rest, kube: Kube) -> str:
    """The control token until now, which is replaced, and the service account `leaver`, which is deleted: at once, as
    the end of either takes several seconds."""
    rest.tokens["leaver"] = await account(kube, NAMESPACE, "leaver", [])
    await bind(kube, NAMESPACE, "leaver", "scorefront-viewer")
    await until(lambda: answered(rest, "leaver", 200), "an answer", IN_FORCE_S)
    old = base64.b64decode((await kube.get(TOKEN_SECRET))["data"]["token"]).decode()
    for instance in (0, 1):
        assert (await rest.ask(old, "GET", path("callers-one"), instance=instance))[0] == 200
    await kube.delete(f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/leaver")
    await kube.patch(TOKEN_SECRET, {"data": None}, MERGE)
    return old


@pytest.mark.usefixtures("replaced")
async def test_a_token_of_a_deleted_service_account_is_refused(rest: Rest) -> None:
    await until(lambda: answered(rest, "leaver", 401), "the end of the token", REPLACED_S)


async def test_changes_and_credentials_are_in_the_audit_log_with_the_callers_name(rest: Rest, site: Site) -> None:
    await rest.ask("editor", "GET", path("callers-one", "/keys"))
    await rest.ask("viewer", "GET", path("callers-one", "/keys"))

    def lines() -> set[tuple[str, str, str]]:
        logs = (site.folder / "logs").glob(f"{HOME}_scorefront-control*.log")
        found = [json.loads(line) for log in logs for line in log.read_text().splitlines() if '"audit": true' in line]
        return {(each["caller"], each["operation"], each["outcome"]) for each in found}

    whose = f"system:serviceaccount:{NAMESPACE}"
    wanted = {(f"{whose}:editor", "getKeys", "done"), (f"{whose}:viewer", "getKeys", "refused")}
    await until_so(lambda: wanted <= lines(), "lines of the audit log", 10)
    texts = [log.read_text() for log in (site.folder / "logs").glob("*.log")]
    assert not [token for token in rest.tokens.values() for text in texts if token in text]


async def test_a_control_token_that_was_replaced_is_refused_within_a_minute(
    rest: Rest, kube: Kube, replaced: str
) -> None:
    await until(lambda: answered(rest, replaced, 401, (0, 1)), "the end of the old control token", REPLACED_S)
    new = base64.b64decode((await kube.get(TOKEN_SECRET))["data"]["token"]).decode()
    assert (await rest.ask(new, "GET", path("callers-one")))[0] == 200
