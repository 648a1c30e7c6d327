"""The REST API: handlers that translate HTTP to calls of the control plane. No decisions are made here.

`controlplane.openapi.OPERATIONS` lists the operations. Keys and tokens are sent in bodies only, never logged and never
cached.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware
from msgspec import UNSET

from cluster.link import WorkerMetrics
from controlplane import payload
from controlplane import rest_guard as guard
from controlplane.answers import (
    DecisionListAnswer,
    FrontEndDecisionListAnswer,
    KeysAnswer,
    ReadinessAnswer,
    SkippedAnswer,
    TokenAnswer,
    WhatIfAnswer,
)
from controlplane.audit import audited
from controlplane.callers import trusted_users_only
from controlplane.control_errors import InvalidCall
from controlplane.dashboard_pages import dashboard_handlers
from controlplane.endpoint_metrics import ProblemMetrics, ScalingMetrics
from controlplane.endpoint_service import EndpointService
from controlplane.keys import KeyPair, KeyType
from controlplane.log_streams import LogLine
from controlplane.openapi import MAX_LAST, MAX_TAIL, OPERATIONS, OUTCOME_HEADER, Operation, document
from controlplane.records import FrontEndRecord, front_end_answer, to_answer, what_if_answer
from controlplane.registry import ApplyOutcome
from controlplane.route_sets import RouteSet
from controlplane.routers import WorkerMetricsSource
from controlplane.tokens import IssuedToken
from serving.faults import Fault, InvalidManifest
from serving.manifest import json_schema

API_VERSION = "1"
MAX_BODY_BYTES = 4 * 1024 * 1024
"""A manifest with six pod templates has about ten kilobytes."""
GONE_CHECK_S = 2.0
"""Seconds between checks for a closed connection while a log stream is quiet."""

_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Render(Protocol):
    """Renders the Prometheus text; implemented by `scorefront.exposition`."""

    async def __call__(
        self, workers: Sequence[WorkerMetrics], scaling: ScalingMetrics, problems: ProblemMetrics
    ) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RestSettings:
    """Access settings of the API."""

    loopback: bool = True
    """True: on loopback or a Unix socket; only loopback host names (`guard.is_loopback`), no credential needed."""
    authenticators: tuple[guard.Authenticator, ...] = ()
    """Accepted kinds of credentials; any makes one required. At least one unless `loopback`."""
    uids: frozenset[int] | None = None
    """Users of this machine that may connect; None: not checked."""
    max_body_bytes: int = MAX_BODY_BYTES
    in_cluster: bool = False
    """True: `/readyz` reports this process only, because an unready model must not make the API unavailable."""


def build_app(
    endpoints: EndpointService,
    settings: RestSettings,
    render: Render,
    front_end: Callable[[int], Sequence[FrontEndRecord]] = lambda last: (),
    metrics: WorkerMetricsSource | None = None,
    more: Sequence[RouteSet] = (),
) -> web.Application:
    """The application, ready for a runner.

    endpoints: the use cases.
    settings: access settings.
    render: renders the body of `/metrics`.
    front_end: n -> last n decisions of front end scaling, newest last; default: none.
    metrics: of the router workers; None: routers expose their own.
    more: operations of other packages; default: none.
    """
    operations = (*OPERATIONS, *(operation for routes in more for operation in routes.operations))
    app = web.Application(
        middlewares=[
            audited({operation.id: operation for operation in operations}),
            guard.json_errors(),
            guard.origin_form_only(),
            *_gates(settings, frozenset(operation.id for operation in operations if operation.is_open)),
            guard.same_site_only(pages=("/",)),
        ],
        client_max_size=settings.max_body_bytes,
    )
    followers = _Followers()
    probes = _Probes(endpoints, render, metrics, settings.in_cluster)
    handlers = {**probes.handlers(), **_Endpoints(endpoints).handlers(), **_pages(operations, more)}
    handlers |= {"getLogs": _Logs(endpoints, followers).get, "getFrontEndDecisions": _front_end(front_end)}
    for routes in more:
        handlers |= routes.handlers
    for operation in operations:
        app.router.add_route(operation.method, _pattern(operation.path), handlers[operation.id], name=operation.id)
    app.on_response_prepare.append(guard.add_security_headers)
    app.on_shutdown.append(followers.end)
    return app


def _pattern(path: str) -> str:
    """The path for the router: a parameter `path` at its end has slashes inside."""
    return f"{path.removesuffix('{path}')}{{path:.+}}" if path.endswith("{path}") else path


def _gates(settings: RestSettings, open_ids: Collection[str]) -> Iterator[Middleware]:
    """Access checks of every request, in order: user, host name, credential. `open_ids`: operations without one."""
    if settings.uids is not None:
        yield trusted_users_only(settings.uids)
    if settings.loopback:
        yield guard.loopback_names_only()
    if settings.authenticators or not settings.loopback:
        yield guard.credential_required(settings.authenticators, open_ids)


class _Probes:
    def __init__(
        self, endpoints: EndpointService, render: Render, metrics: WorkerMetricsSource | None, in_cluster: bool
    ) -> None:
        self._endpoints = endpoints
        self._render = render
        self._metrics = metrics
        self._in_cluster = in_cluster

    def handlers(self) -> dict[str, guard.Handler]:
        return {"health": self.health, "readiness": self.readiness, "metrics": self.metrics}

    async def health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def readiness(self, request: web.Request) -> web.StreamResponse:
        skipped = _skipped(self._endpoints)
        missing = [str(shortfall) for shortfall in self._endpoints.shortfalls()]
        missing += (f"{each.name}: skipped: {each.message}" for each in skipped)
        ready = self._in_cluster or not missing
        answer = ReadinessAnswer(ready, missing, skipped or UNSET)
        return web.json_response(answer.document(), status=200 if ready else 503)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        workers = await self._metrics.collect() if self._metrics is not None else ()
        problems = await self._endpoints.metrics.problems()
        body = await self._render(workers, self._endpoints.metrics.scaling(), problems)
        return web.Response(body=body, headers={"Content-Type": _METRICS_TYPE})


class _Endpoints:
    def __init__(self, endpoints: EndpointService) -> None:
        self._endpoints = endpoints

    def handlers(self) -> dict[str, guard.Handler]:
        return {
            "listEndpoints": self.listed,
            "getEndpoint": self.get,
            "putEndpoint": self.put,
            "deleteEndpoint": self.delete,
            "getKeys": self.keys,
            "regenerateKey": self.regenerate,
            "issueToken": self.token,
            "revokeTokens": self.revoke,
            "setTraffic": self.traffic,
            "restartEndpoint": self.restart,
            "getDecisions": self.decisions,
            "getWhatIf": self.what_if,
        }

    async def listed(self, request: web.Request) -> web.StreamResponse:
        views, skipped = await self._endpoints.views(), _skipped(self._endpoints)
        visible = request.get(guard.VISIBLE)
        if visible is not None:
            views = [view for view in views if view["metadata"]["name"] in visible]
            skipped = [each for each in skipped if each.name in visible]
        more = {"skipped": [each.document() for each in skipped]} if skipped else {}
        return web.json_response({"value": views, **more})

    async def get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self._endpoints.get(_name(request)))

    async def put(self, request: web.Request) -> web.StreamResponse:
        declared = payload.from_json(await request.read())
        _same_name(declared, _name(request))
        view, outcome = await self._endpoints.apply(declared)
        status = 201 if outcome is ApplyOutcome.CREATED else 200
        return web.json_response(view, status=status, headers={OUTCOME_HEADER: outcome})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        await self._endpoints.delete(_name(request))
        return web.Response(status=204)

    async def keys(self, request: web.Request) -> web.StreamResponse:
        return _shown_keys(self._endpoints.keys(_name(request)))

    async def regenerate(self, request: web.Request) -> web.StreamResponse:
        choice = payload.read(await request.read(), payload.KeyChoice)
        if choice.key_type.lower() not in set(KeyType):
            raise InvalidCall("keyType must be 'primary' or 'secondary'")
        pair = await self._endpoints.regenerate(_name(request), KeyType(choice.key_type.lower()), choice.key_value)
        return _shown_keys(pair)

    async def token(self, request: web.Request) -> web.StreamResponse:
        return _shown_token(self._endpoints.token(_name(request)))

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        return _shown_token(await self._endpoints.revoke_tokens(_name(request)))

    async def traffic(self, request: web.Request) -> web.StreamResponse:
        change = payload.read(await request.read(), payload.TrafficChange)
        view = await self._endpoints.set_traffic(_name(request), change.percentiles, change.default, change.control)
        return web.json_response(view)

    async def restart(self, request: web.Request) -> web.StreamResponse:
        choice = payload.read(await request.read() or b"{}", payload.RestartChoice)
        return web.json_response(await self._endpoints.restart(_name(request), choice.version))

    async def decisions(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "version", "last")
        last = payload.whole_number(request.query, "last", default=20, least=1, most=MAX_LAST)
        records = self._endpoints.decisions(_name(request), request.query.get("version"), last)
        return web.json_response(DecisionListAnswer([to_answer(record) for record in records]).document())

    async def what_if(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "version", "policy")
        changes = request.query.get("policy", "")
        found = self._endpoints.what_if(_name(request), request.query.get("version"), changes)
        return web.json_response(WhatIfAnswer([what_if_answer(*each) for each in found]).document())


def _front_end(decisions: Callable[[int], Sequence[FrontEndRecord]]) -> guard.Handler:
    async def show(request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "last")
        last = payload.whole_number(request.query, "last", default=20, least=1, most=MAX_LAST)
        return web.json_response(
            FrontEndDecisionListAnswer([front_end_answer(each) for each in decisions(last)]).document()
        )

    return show


class _Followers:
    """Open log streams; they never end by themselves, so a shutdown cancels them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @contextlib.contextmanager
    def registered(self) -> Iterator[None]:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a log stream needs a task")
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def end(self, app: web.Application) -> None:
        for task in self._tasks:
            task.cancel()


class _Logs:
    def __init__(self, endpoints: EndpointService, followers: _Followers) -> None:
        self._endpoints = endpoints
        self._followers = followers

    async def get(self, request: web.Request) -> web.StreamResponse:
        payload.only(request.query, "version", "tail", "follow")
        version = request.query.get("version")
        tail = payload.whole_number(request.query, "tail", default=100, least=0, most=MAX_TAIL)
        follow = payload.yes_no(request.query, "follow")
        headers = {"Content-Type": "application/x-ndjson"}
        if not follow:
            past = await self._endpoints.logs(_name(request), version, tail)
            return web.Response(body=b"".join(map(_as_json_line, past)), headers=headers)
        response = web.StreamResponse(headers=headers)
        followed = self._endpoints.follow_logs(_name(request), version, tail)
        with self._followers.registered():
            await response.prepare(request)
            async with contextlib.aclosing(followed) as lines:
                await _stream(lines, request, response)
        return response


async def _stream(lines: AsyncGenerator[LogLine, None], request: web.Request, response: web.StreamResponse) -> None:
    """Write lines until the client disconnects, which a quiet stream detects only by polling."""
    while True:
        coming = asyncio.create_task(_next(lines), name="next log line")
        try:
            while not coming.done():
                await asyncio.wait([coming], timeout=GONE_CHECK_S)
                if request.transport is None or request.transport.is_closing():
                    return
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
        await response.write(_as_json_line(coming.result()))


async def _next(lines: AsyncIterator[LogLine]) -> LogLine:
    return await anext(lines)


def _pages(operations: Sequence[Operation], more: Sequence[RouteSet]) -> dict[str, guard.Handler]:
    records = tuple(record for routes in more for record in routes.records)
    described = document(json_schema(), API_VERSION, operations, records)

    async def openapi(request: web.Request) -> web.StreamResponse:
        return web.json_response(described)

    return {**dashboard_handlers(), "openapi": openapi}


def _skipped(endpoints: EndpointService) -> list[SkippedAnswer]:
    return [SkippedAnswer(name, skipped.why) for name, skipped in endpoints.skipped().items()]


def _name(request: web.Request) -> str:
    return request.match_info["name"]


def _same_name(declared: Any, name: str) -> None:
    """Refuse a document with another name than the path. Raises InvalidManifest."""
    metadata = declared.get("metadata") if isinstance(declared, dict) else None
    given = metadata.get("name") if isinstance(metadata, dict) else None
    if isinstance(given, str) and given != name:
        raise InvalidManifest((Fault("metadata.name", given, f"must be '{name}', as in the path of the request"),))


def _shown_keys(pair: KeyPair) -> web.Response:
    return web.json_response(KeysAnswer(pair.primary, pair.secondary).document())


def _shown_token(token: IssuedToken) -> web.Response:
    answer = TokenAnswer(token.access_token, "Bearer", token.refresh_after, token.expires_on)
    return web.json_response(answer.document())


def _as_json_line(line: LogLine) -> bytes:
    return json.dumps(line._asdict(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
