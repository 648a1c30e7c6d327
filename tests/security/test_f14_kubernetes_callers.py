"""F14: in a cluster REST grants a Kubernetes caller exactly the rights of the API server."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestClient, TestServer

from cluster.kubernetes.client.access import Access, BorrowedCredentials, Credentials
from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import Misconfigured, RequestRefused
from controlplane.caller_cache import ALL_BURST, MAX_REMEMBERED, ONE_BURST, REMEMBER_S, ExpiringCache, ReviewLimit
from controlplane.control_token import ControlToken
from controlplane.kubernetes.cluster_callers import KubernetesCallers
from controlplane.openapi import OPERATIONS, Operation
from controlplane.rest import RestSettings, build_app
from controlplane.route_sets import RouteSet
from scorefront.control.lacking_operations import lacking_operations
from scorefront.exposition import Exposition
from tests.fakes.clock import eventually
from tests.fakes.cluster import Leadership, scoring_endpoint
from tests.fakes.people import PeopledKubernetes, Person

TOKEN = "control-token-of-the-test"
ENDPOINTS = "scoringendpoints"
IRIS, WINE = "/api/v1/endpoints/iris", "/api/v1/endpoints/wine"


async def unreachable(request: web.Request) -> web.StreamResponse:
    raise AssertionError("no caller has a right to this")


UNKNOWN = RouteSet((Operation("unknown", "GET", "/api/v1/unknown", "", {200: ""}),), {"unknown": unreachable})
"""An operation that the authenticator is not told of."""


class Rig:
    """A leader that serves two namespaces, `red` with iris and `blue` with wine, and its REST."""

    def __init__(self) -> None:
        self.kubernetes = PeopledKubernetes()
        self.leader = Leadership(self.kubernetes, namespaces=("home", "red", "blue"))

    async def start(self) -> None:
        await self.leader.start()
        self.leader.plane.reports.workers_expected(["w1"])
        await self.leader.declare(scoring_endpoint("iris", namespace="red"))
        await self.leader.declare(scoring_endpoint("wine", namespace="blue"))
        control = self.leader.control
        lacking = lacking_operations()
        operations = (*OPERATIONS, *lacking.operations)
        callers = KubernetesCallers(cast(Api, self.kubernetes), "home", control.places, self.leader.clock, operations)
        settings = RestSettings(loopback=False, authenticators=(ControlToken.fixed(TOKEN), callers), in_cluster=True)
        app = build_app(control.plane.endpoints, settings, Exposition().render, more=(lacking, UNKNOWN))
        self.client = TestClient(TestServer(app))
        await self.client.start_server()

    async def stop(self) -> None:
        await self.client.close()
        await self.leader.stop()

    def person(self, name: str, *rights: tuple[str, str, str]) -> dict[str, str]:
        """The header of a caller with these rights."""
        self.kubernetes.people[f"token-of-{name}"] = Person(name, set(rights))
        return {"Authorization": f"Bearer token-of-{name}"}

    async def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> tuple[int, Any]:
        async with self.client.request(method, path, headers=headers, json=body) as answer:
            text = await answer.text()
            return answer.status, (await answer.json()) if answer.content_type == "application/json" else text


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    await made.start()
    yield made
    await made.stop()


CALLS: dict[str, tuple[str, str, Any, tuple[str, str, str] | None]] = {
    "metrics": ("GET", "/metrics", None, ("get", "/metrics", "*")),
    "getFrontEndDecisions": (
        "GET",
        "/api/v1/front-end/decisions",
        None,
        ("get", "/scorefront/front-end/decisions", "*"),
    ),
    "getEndpoint": ("GET", IRIS, None, ("get", ENDPOINTS, "red")),
    "getWhatIf": ("GET", f"{IRIS}/decisions/what-if?policy=min=2", None, ("get", ENDPOINTS, "red")),
    "getDecisions": ("GET", f"{IRIS}/decisions", None, ("get", ENDPOINTS, "red")),
    "getLogs": ("GET", f"{IRIS}/logs", None, ("get", f"{ENDPOINTS}/log", "red")),
    "getKeys": ("GET", f"{IRIS}/keys", None, ("get", f"{ENDPOINTS}/keys", "red")),
    "regenerateKey": (
        "POST",
        f"{IRIS}/keys/regenerate",
        {"keyType": "primary"},
        ("update", f"{ENDPOINTS}/keys", "red"),
    ),
    "issueToken": ("POST", f"{IRIS}/token", None, ("create", f"{ENDPOINTS}/token", "red")),
    "revokeTokens": ("POST", f"{IRIS}/token/revoke", None, ("update", f"{ENDPOINTS}/token", "red")),
    "setTraffic": ("PATCH", f"{IRIS}/traffic", {"percentiles": {"blue": 50}}, ("update", ENDPOINTS, "red")),
    "restartEndpoint": ("POST", f"{IRIS}/restart", {}, ("update", ENDPOINTS, "red")),
    "putEndpoint": (
        "PUT",
        IRIS,
        scoring_endpoint("iris", namespace="red", description="x"),
        ("update", ENDPOINTS, "red"),
    ),
    "deleteEndpoint": ("DELETE", IRIS, None, ("delete", ENDPOINTS, "red")),
}
EVERYTHING = {right for *_, right in CALLS.values() if right is not None} | {("list", ENDPOINTS, "red")}


def test_every_operation_of_an_endpoint_has_a_right_and_a_trial() -> None:
    named = {operation.id for operation in OPERATIONS if operation.right and operation.right.verb}
    assert named == CALLS.keys() | {"listEndpoints"}
    assert all(operation.right or operation.is_open for operation in OPERATIONS)


async def test_operations_of_the_workspace_are_refused_with_the_reason_to_authenticated_callers(rig: Rig) -> None:
    for operation in lacking_operations().operations:
        path = re.sub(r"\{sha256\}", "a" * 64, operation.path)
        path = re.sub(r"\{\w+(:[^}]*)?\}", "1", path)
        status, body = await rig.ask(operation.method, path, rig.person("nobody"))
        assert status == 501 and (operation.method == "HEAD" or "`scorefront up`" in body["error"]["message"])
        assert (await rig.ask(operation.method, path, {}))[0] == 401


async def test_an_operation_without_a_known_right_needs_the_control_token(rig: Rig) -> None:
    status, body = await rig.ask("GET", "/api/v1/unknown", rig.person("anna", *EVERYTHING))
    assert status == 403 and body["error"]["message"] == "unknown requires the control token"


def test_no_right_is_one_that_every_authenticated_caller_has() -> None:
    """The ClusterRole system:discovery, bound to all of them by default, has `get` below /api, /apis and /openapi."""
    urls = [operation.right.url for operation in OPERATIONS if operation.right and operation.right.url]
    assert urls
    assert [url for url in urls if url.startswith(("/api", "/openapi", "/version"))] == []


@pytest.mark.parametrize("operation", CALLS)
async def test_an_operation_needs_its_right_in_its_namespace(rig: Rig, operation: str) -> None:
    method, path, body, right = CALLS[operation]
    assert right is not None
    others = rig.person("others", *(EVERYTHING - {right}))
    elsewhere = rig.person("elsewhere", *((verb, what, "blue") for verb, what, _ in EVERYTHING))
    for nobody in (others, elsewhere):
        status, told = await rig.ask(method, path, nobody, body)
        assert status == 403 and told["error"]["code"] == "Forbidden"
        assert right[0] in told["error"]["message"] and right[1].partition("/")[0] in told["error"]["message"]
    status, told = await rig.ask(method, path, rig.person("entitled", right), body)
    assert status in ((409,) if operation in ("issueToken", "revokeTokens") else (200, 204)), told


async def test_endpoints_are_declared_changed_and_deleted_with_the_callers_own_token(rig: Rig) -> None:
    rights = [(verb, ENDPOINTS, "red") for verb in ("create", "update", "delete", "get")]
    header = rig.person("ann", *rights)
    status, told = await rig.ask("PUT", "/api/v1/endpoints/new", header, scoring_endpoint("new", namespace="red"))
    assert status == 201, told
    assert (await rig.ask("PUT", IRIS, header, scoring_endpoint("iris", namespace="red", description="d")))[0] == 200
    assert (await rig.ask("PATCH", f"{IRIS}/traffic", header, {"percentiles": {"blue": 20}}))[0] == 200
    assert (await rig.ask("DELETE", IRIS, header))[0] == 204
    written = [(verb, where.rpartition("/")[2]) for token, verb, where in rig.kubernetes.asked if "review" not in where]
    assert written == [("create", ENDPOINTS), ("replace", "iris"), ("replace", "iris"), ("delete", "iris")]
    assert {token for token, *_ in rig.kubernetes.asked} == {"token-of-ann"}


async def test_an_admission_policy_sees_the_caller_and_its_words_come_back(rig: Rig) -> None:
    header = rig.person("ann", ("create", ENDPOINTS, "red"))
    message = "ann may not create deployments"
    rig.kubernetes.admission = RequestRefused("403", 403, "Forbidden", body={"message": message})
    status, told = await rig.ask("PUT", "/api/v1/endpoints/new", header, scoring_endpoint("new", namespace="red"))
    assert status == 403 and message in told["error"]["message"]
    assert (await rig.ask("GET", "/api/v1/endpoints/new", {"Authorization": f"Bearer {TOKEN}"}))[0] == 404


async def test_a_new_endpoint_needs_create_in_its_namespace(rig: Rig) -> None:
    header = rig.person("ann", ("create", ENDPOINTS, "red"), ("update", ENDPOINTS, "home"))
    for namespace in ("blue", "home", "kube-system"):
        document = scoring_endpoint("new", namespace=namespace)
        assert (await rig.ask("PUT", "/api/v1/endpoints/new", header, document))[0] == 403
    del document["metadata"]["namespace"]
    assert (await rig.ask("PUT", "/api/v1/endpoints/new", header, document))[0] == 403
    assert (await rig.ask("PUT", WINE, header, scoring_endpoint("wine", namespace="red")))[0] == 403
    assert not any("review" not in where for *_, where in rig.kubernetes.asked)


async def test_a_list_has_the_namespaces_that_the_caller_may_list(rig: Rig) -> None:
    for rights, names in (
        ((), []),
        ((("list", ENDPOINTS, "red"),), ["iris"]),
        ((("list", ENDPOINTS, "*"),), ["iris", "wine"]),
    ):
        header = rig.person(f"who-{len(names)}", *rights)
        status, told = await rig.ask("GET", "/api/v1/endpoints", header)
        assert status == 200 and [each["metadata"]["name"] for each in told["value"]] == names


async def test_pages_are_for_every_caller_and_a_stranger_gets_the_accepted_credentials(rig: Rig) -> None:
    for path in ("/", "/dashboard/dashboard.js", "/openapi.json"):
        assert (await rig.ask("GET", path, rig.person("ann")))[0] == 200
    for header in ({}, {"Authorization": "Bearer nobody"}, {"Authorization": "Bearer "}, {"Authorization": "Bearer é"}):
        status, told = await rig.ask("GET", IRIS, header)
        assert status == 401
        assert "the control token or a Kubernetes bearer token" in told["error"]["message"]


async def test_basic_takes_either(rig: Rig) -> None:
    rig.person("ann", ("get", ENDPOINTS, "red"))
    for password in (TOKEN, "token-of-ann"):
        async with rig.client.get(IRIS, headers={"Authorization": encode_basic_auth("anybody", password)}) as answer:
            assert answer.status == 200


async def test_the_control_token_never_reaches_the_api_server(rig: Rig) -> None:
    assert (await rig.ask("GET", f"{IRIS}/keys", {"Authorization": f"Bearer {TOKEN}"}))[0] == 200
    assert rig.kubernetes.asked == []


async def test_rights_that_are_taken_away_are_gone_within_ten_seconds(rig: Rig) -> None:
    header = rig.person("ann", ("get", ENDPOINTS, "red"))
    assert (await rig.ask("GET", IRIS, header))[0] == 200
    asked = len(rig.kubernetes.asked)
    assert (await rig.ask("GET", IRIS, header))[0] == 200
    assert len(rig.kubernetes.asked) == asked, "reviews are remembered for a moment"
    rig.kubernetes.people["token-of-ann"].rights.clear()
    await rig.leader.settle(REMEMBER_S)
    assert (await rig.ask("GET", IRIS, header))[0] == 403
    del rig.kubernetes.people["token-of-ann"]
    await rig.leader.settle(REMEMBER_S)
    assert (await rig.ask("GET", IRIS, header))[0] == 401


async def test_an_unreachable_api_server_is_reported_and_the_control_token_works(rig: Rig) -> None:
    header = rig.person("ann", ("get", ENDPOINTS, "red"))
    rig.kubernetes.is_away = True
    status, told = await rig.ask("GET", IRIS, header)
    assert status == 503 and "Kubernetes API" in told["error"]["message"]
    assert (await rig.ask("GET", IRIS, {"Authorization": f"Bearer {TOKEN}"}))[0] == 200


async def test_guesses_are_bounded(rig: Rig) -> None:
    told = [(await rig.ask("GET", IRIS, {"Authorization": f"Bearer {number}"}))[0] for number in range(100)]
    assert set(told) == {401, 429}
    assert len(rig.kubernetes.asked) <= ONE_BURST + 1


def test_one_address_leaves_others_their_share() -> None:
    limit = ReviewLimit()
    assert ONE_BURST <= sum(limit.admits("rogue", 0.0) for _ in range(1000)) <= ONE_BURST + 1
    assert limit.admits("other", 0.0)
    assert sum(limit.admits(str(number), 0.0) for number in range(1000)) <= ALL_BURST + 1


def test_remembered_callers_are_bounded() -> None:
    remembered: ExpiringCache[int] = ExpiringCache()
    for number in range(2 * MAX_REMEMBERED):
        remembered.put(number, number, 0.0)
    assert remembered.get(0, 0.0) is None and remembered.get(2 * MAX_REMEMBERED - 1, 0.0) is not None
    assert remembered.get(2 * MAX_REMEMBERED - 1, REMEMBER_S) is None
    assert len(remembered._values) == MAX_REMEMBERED


class _Source:
    def __init__(self, access: Access) -> None:
        self.access = access

    async def read(self, anew: bool) -> Access:
        return self.access


@pytest.mark.parametrize(
    "access",
    [Access("https://api", "", authorization="Bearer own", has_certificate=True), Access("http://127.0.0.1:8001", "")],
)
async def test_a_callers_token_never_travels_beside_an_identity_of_ours(access: Access) -> None:
    own = Credentials(_Source(access), access, 0.0)
    with pytest.raises(Misconfigured):
        await BorrowedCredentials(own, "token").now(0.0)


async def test_a_callers_token_takes_the_place_of_ours() -> None:
    access = Access("https://api", "", authorization="Bearer own")
    borrowed = BorrowedCredentials(Credentials(_Source(access), access, 0.0), "theirs")
    assert (await borrowed.now(0.0)).authorization == "Bearer theirs"
    assert await borrowed.after_refusal(access, 0.0) is None


# ---- the control token is read again


async def test_a_replaced_control_token_dies_without_a_restart() -> None:
    kept = ["first"]

    async def read() -> str:
        return kept[0]

    token = ControlToken("first", read)
    leader = Leadership(namespaces=("home",))
    await leader.start()
    settings = RestSettings(loopback=False, authenticators=(token,))
    client = TestClient(TestServer(build_app(leader.plane.endpoints, settings, Exposition().render)))
    await client.start_server()
    running = asyncio.create_task(token.run(leader.clock))

    async def opens(shown: str) -> bool:
        async with client.get("/api/v1/endpoints", headers={"Authorization": f"Bearer {shown}"}) as answer:
            return answer.status == 200

    assert await opens("first") and not await opens("second")
    kept[0] = "second"
    await leader.settle(60)
    assert await opens("second") and not await opens("first")
    for off in ("off", ""):
        kept[0] = off
        await leader.settle(60)
        assert not await opens("second") and not await opens(off)
    running.cancel()
    await client.close()
    await leader.stop()
    await eventually(running.done)
