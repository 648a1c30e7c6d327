"""Counters of requests without a version, their recorders, and lines of the access log."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from router.core.ids import kept_client_id
from router.core.router_errors import RouterError
from router.core.table import Table
from router.metrics import WorkerStats
from router.proxy.request_head import RequestHead, RequestMeaning
from router.proxy.request_observer import AccessRecorder
from serving.endpoint import VersionKey

if TYPE_CHECKING:
    from router.proxy.exchange_state import ExchangeState


class RequestAccounting:
    """Accounting off the hot path; requests of a version are counted by `VersionStats.observe`."""

    def __init__(
        self,
        table: Table,
        stats: WorkerStats,
        unix_now: Callable[[], float],
        recorders: Mapping[VersionKey, AccessRecorder],
    ) -> None:
        """`unix_now`: wall clock. `recorders`: live; "" as the version for requests that reach none."""
        self._table = table
        self._stats = stats
        self._unix_now = unix_now
        self._recorders = recorders

    def count_unrouted(self, head: RequestHead, status: int) -> None:
        """Count a request that reached no version, e.g. 401 or 404."""
        plan = head.plan
        endpoint = plan.match.route.name if plan is not None and plan.generation == self._table.generation else ""
        self._stats.version(VersionKey(endpoint, "")).requests[status] += 1

    def record_unrouted(self, exchange: "ExchangeState", seconds: float, code: str) -> None:
        """Report a request that reached no version to the recorder of its endpoint.

        `exchange`: of the request. `seconds`: its duration. `code`: error code of the router, "" if there is none.
        """
        plan = exchange.head.plan
        if plan is not None and self._recorders:
            endpoint = plan.match.route.name
            self._record(endpoint, exchange.request_id, exchange.head, exchange.status, seconds, code)

    def count_malformed(self, error: RouterError, request_id: bytes) -> None:
        """Count input that never became a request. `request_id`: in the response."""
        self._stats.version(VersionKey("", "")).requests[error.status] += 1
        if self._recorders and error.path:
            meaning = RequestMeaning(error.method, 1, {})
            meaning.path = error.path
            head = RequestHead(b"\r\n\r\n", meaning, 0, [])
            head.client_request_id = error.client_request_id
            self._record(self._table.named(error.path), request_id, head, error.status, 0.0, error.code)

    def _record(
        self, endpoint: str, request_id: bytes, head: RequestHead, status: int, seconds: float, code: str
    ) -> None:
        """Report a request. `endpoint`: its name. `seconds`: duration. The others: as in the response."""
        recorder = self._recorders.get(VersionKey(endpoint, ""))
        if recorder is not None:
            trace = recorder.begin(head)
            if trace[5]:
                recorder.request_ended(trace, request_id, head, 0, 0, status, 0, "", seconds, 0.0, math.nan, code)

    def access_record(self, exchange: "ExchangeState", seconds: float, code: str, rule: str) -> dict[str, object]:
        """The access record of a request: no query, no credential, nothing that could forge a line.

        `exchange`: of the request. `seconds`: its duration. `code`: error code of the router, "" if there is none.
        `rule`: of HTTP that was broken, "" if none was.
        """
        version = exchange.version
        plan = exchange.head.plan
        record: dict[str, object] = {
            "time": round(self._unix_now(), 3),
            "id": exchange.request_id.decode(),
            "clientId": kept_client_id(exchange.head.client_request_id).decode(),
            "method": exchange.head.method.decode("latin-1"),
            "path": exchange.head.path.decode("latin-1")[:256],
            "endpoint": plan.match.route.name if plan is not None else "",
            "version": version.route.key.version if version is not None else "",
            "replica": exchange.replica_id,
            "status": exchange.status,
            "code": code,
            "seconds": round(seconds, 6),
            "waited": round(exchange.wait_s, 6),
        }
        return {**record, "rule": rule} if rule else record

    def refused_record(self, error: RouterError, request_id: bytes) -> dict[str, object]:
        """The access record of input that never became a request. `request_id`: in the response."""
        return {
            "time": round(self._unix_now(), 3),
            "id": request_id.decode(),
            "clientId": kept_client_id(error.client_request_id).decode(),
            "method": error.method.decode("latin-1"),
            "path": error.path.decode("latin-1")[:256],
            "endpoint": "",
            "version": "",
            "replica": "",
            "status": error.status,
            "code": error.code,
            "seconds": 0.0,
            "waited": 0.0,
            "rule": error.rule or error.text,
        }
