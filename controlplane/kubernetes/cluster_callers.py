"""Authentication and authorization of REST callers with a Kubernetes bearer token, by the API server.

Reviews (SelfSubjectReview, SelfSubjectAccessReview) and writes of ScoringEndpoints use the token of the caller: REST
grants no additional right, admission policies see the caller, and this process needs no right to review others. A token
is sent to the API server only.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from aiohttp import web

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, Misconfigured
from cluster.kubernetes.client.paths import ACCESS_REVIEWS, ENDPOINTS, IDENTITY_REVIEWS, path
from controlplane import payload
from controlplane.caller_cache import ExpiringCache, ReviewLimit
from controlplane.control_errors import ControlError, MissingCredential, NotPermitted, StoreUnavailable, TooManyRequests
from controlplane.openapi import OPERATIONS, Operation
from controlplane.rest_guard import CALLER, VISIBLE, remote_of
from controlplane.rights import DECLARE, Right
from serving.clock import Clock

AT_ONCE = 16
"""Concurrent reviews for one list request."""

_acting: ContextVar[str] = ContextVar("acting", default="")


def writer(api: Api) -> Api:
    """The client for writes of ScoringEndpoints: with the token of the caller, else with the own token."""
    token = _acting.get()
    return api.with_token(token) if token else api


@contextlib.contextmanager
def as_caller() -> Iterator[None]:
    """Convert refusals of a write with the caller's token. Raises NotPermitted, MissingCredential."""
    try:
        yield
    except ApiError as error:
        if _acting.get() and error.status == 403:
            raise NotPermitted(f"the Kubernetes API refuses it: {_message(error)}") from error
        if _acting.get() and error.status == 401:
            raise MissingCredential("the Kubernetes API no longer accepts this token") from error
        raise


class KubernetesCallers:
    """Authenticator for Kubernetes bearer tokens. Implements `controlplane.rest_guard.Authenticator`."""

    accepts = "a Kubernetes bearer token"

    def __init__(
        self,
        api: Api,
        home: str,
        places: Callable[[], Mapping[str, str]],
        clock: Clock,
        operations: Sequence[Operation] = OPERATIONS,
    ) -> None:
        """An authenticator with an empty cache.

        api: client of the API server; its own token is not used.
        home: namespace of documents without one.
        places: existing endpoint -> its namespace.
        clock: event-loop clock.
        operations: all of the API; others are refused. Default: those of the control plane.
        """
        self._operations = {operation.id: operation for operation in operations}
        self._api = api
        self._home = home
        self._places = places
        self._clock = clock
        self._callers: ExpiringCache[str | None] = ExpiringCache()
        self._rights: ExpiringCache[bool] = ExpiringCache()
        self._limit = ReviewLimit()

    async def caller(self, credential: str, request: web.Request) -> str | None:
        """Name of the caller, if the token is valid and the operation allowed; None: invalid token.

        Raises NotPermitted that names the missing right, StoreUnavailable, TooManyRequests.
        """
        if not credential.isascii() or not credential.isprintable():
            return None
        name = await self._name(credential, remote_of(request))
        if name is None:
            return None
        request[CALLER] = name  # also in the audit line of a refusal
        if route := request.match_info.route.name:
            if route not in self._operations:
                raise NotPermitted(f"{route} requires the control token")
            await self._check(credential, name, self._operations[route], request)
        _acting.set(credential)  # for the task of this request
        return name

    # ---- authentication
    async def _name(self, token: str, address: str) -> str | None:
        key, now = _digest(token), self._clock.now()
        if (known := self._callers.get(key, now)) is not None:
            return known[0]
        if not self._limit.admits(address, now):
            raise TooManyRequests("too many unknown credentials; try again in a second")
        name = await self._reviewed_name(token)
        self._callers.put(key, name, now)
        return name

    async def _reviewed_name(self, token: str) -> str | None:
        body = {"apiVersion": IDENTITY_REVIEWS.api_version, "kind": IDENTITY_REVIEWS.kind}
        api = self._api.with_token(token)
        try:
            found = await api.create(path(IDENTITY_REVIEWS, None), body, urgent=True)
        except Misconfigured:
            return None
        except ApiError as error:
            if error.status == 401:
                return None
            raise _review_failed(error) from error
        name = found.get("status", {}).get("userInfo", {}).get("username")
        return str(name) if name and name != "system:anonymous" else None

    # ---- authorization
    async def _check(self, token: str, name: str, operation: Operation, request: web.Request) -> None:
        right = operation.right
        if right is None:
            raise NotPermitted(f"{operation.id} requires the control token")
        if right.url:
            await self._demand(token, name, {"nonResourceAttributes": {"verb": right.verb, "path": right.url}})
        elif right.verb == "list":
            request[VISIBLE] = await self._visible(token)
        elif right.verb:
            endpoint = request.match_info["name"]
            namespace = self._places().get(endpoint)
            verb = right.verb
            if verb == DECLARE:
                verb = "create" if namespace is None else "update"
                namespace = namespace or _namespace_in(await request.read())
            await self._demand(token, name, _on_endpoint(right, verb, namespace or self._home, endpoint))

    async def _visible(self, token: str) -> frozenset[str]:
        """Endpoints in the namespaces in which the caller has the right to list them."""
        places = dict(self._places())
        if await self._may(token, _on_endpoints("list", "")):
            return frozenset(places)
        gate = asyncio.Semaphore(AT_ONCE)

        async def look(namespace: str) -> bool:
            async with gate:
                return await self._may(token, _on_endpoints("list", namespace))

        namespaces = sorted(set(places.values()))
        allowed = dict(zip(namespaces, await asyncio.gather(*map(look, namespaces)), strict=True))
        return frozenset(name for name, namespace in places.items() if allowed[namespace])

    async def _demand(self, token: str, name: str, access: Mapping[str, Any]) -> None:
        if not await self._may(token, access):
            raise NotPermitted(f"{name} may not {_in_words(access)}")

    async def _may(self, token: str, access: Mapping[str, Any]) -> bool:
        key, now = (_digest(token), repr(access)), self._clock.now()
        if (known := self._rights.get(key, now)) is not None:
            return known[0]
        body = {"apiVersion": ACCESS_REVIEWS.api_version, "kind": ACCESS_REVIEWS.kind, "spec": dict(access)}
        api = self._api.with_token(token)
        try:
            found = await api.create(path(ACCESS_REVIEWS, None), body, urgent=True)
        except ApiError as error:
            raise _review_failed(error) from error
        allowed = found.get("status", {}).get("allowed") is True
        self._rights.put(key, allowed, now)
        return allowed


def _on_endpoints(verb: str, namespace: str) -> dict[str, Any]:
    """Attributes of a review. `namespace` "": all namespaces."""
    attributes = {"verb": verb, "group": ENDPOINTS.group, "resource": ENDPOINTS.plural, "namespace": namespace}
    return {"resourceAttributes": attributes}


def _on_endpoint(right: Right, verb: str, namespace: str, name: str) -> dict[str, Any]:
    access = _on_endpoints(verb, namespace)
    access["resourceAttributes"] |= {"name": name, "subresource": right.subresource}
    return access


def _in_words(access: Mapping[str, Any]) -> str:
    if (url := access.get("nonResourceAttributes")) is not None:
        return f"{url['verb']} {url['path']} (nonResourceURLs)"
    attributes = access["resourceAttributes"]
    resource = "/".join(filter(None, (attributes["resource"], attributes.get("subresource", ""))))
    return f"{attributes['verb']} {resource}.{attributes['group']} in namespace {attributes['namespace']}"


def _namespace_in(body: bytes) -> str:
    """Namespace in a document; "" if it has none, or is invalid (reported later by its parser)."""
    try:
        declared = payload.from_json(body)
    except ControlError:
        return ""
    metadata = declared.get("metadata") if isinstance(declared, dict) else None
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    return namespace if isinstance(namespace, str) else ""


def _review_failed(error: ApiError) -> ControlError:
    if error.status == 401:
        return MissingCredential("the Kubernetes API no longer accepts this token")
    if error.status == 403:
        return NotPermitted(f"the Kubernetes API refuses self reviews of this caller: {_message(error)}")
    return StoreUnavailable(f"the Kubernetes API cannot review this request: {error}")


def _message(error: ApiError) -> str:
    return str(error.body.get("message") or error.message)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
