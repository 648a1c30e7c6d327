"""The audit log: one line of JSON for each change, each reading of a credential and each refused attempt.

Lines go to the logger `scorefront.audit`; `scorefront.process.audit_output` selects its destination. No line holds a
credential, a body or a query string; JSON escapes keep clients from forging a line.
"""

import asyncio
import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.token_bucket import TokenBucket
from controlplane.openapi import Operation
from controlplane.rest_guard import CALLER, ERROR_CODE, Handler, remote_of

FORWARDED_BY = "Scorefront-Forwarded-By"
"""Identity of the standby that forwarded the request; see `controlplane.leader_proxy`."""
FORWARDED_FOR = "Scorefront-Forwarded-For"
"""Client address as seen by the forwarding standby."""
CLIENT_REQUEST_ID = "x-ms-client-request-id"
REFUSED_PER_S = 1.0
REFUSED_BURST = 20.0
"""Consecutive refused attempts that are logged one by one; further ones are counted, at one line a second."""
MAX_CHARACTERS = 256
"""Longest text from a client; the rest is cut."""

_REFUSED = (401, 403)
_log = logging.getLogger("scorefront.audit")


def note(entry: Mapping[str, Any]) -> None:
    """Write one line. `entry`: JSON values by field name; the formatter adds the time."""
    _log.info("%s", json.dumps(entry))


class AuditFormatter(logging.Formatter):
    """Formats an audit entry as one line of JSON: `audit`, `time` and the fields of the entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        return json.dumps({"audit": True, "time": at.replace("+00:00", "Z"), **json.loads(record.getMessage())})


class AttemptLimit:
    """Rate limit of the lines for refused attempts. Pure."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(REFUSED_PER_S, REFUSED_BURST)
        self._next_s = 0.0
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """Number of attempts skipped since the last line; None: skip this one too. `now`: seconds, monotonic."""
        if now < self._next_s:
            self._left_out += 1
            return None
        self._next_s = now + self._bucket.take(now)
        left_out, self._left_out = self._left_out, 0
        return left_out


def audited(operations: Mapping[str, Operation]) -> Middleware:
    """Middleware that logs changes, readings of credentials and refusals. `operations`: operations by id."""
    limit = AttemptLimit()

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = operations.get(request.match_info.route.name or "")
        is_audited = operation is not None and operation.is_audited
        try:
            response = await handler(request)
        except BaseException:
            # Cancelled, or the client has disconnected: the outcome is unknown.
            if is_audited:
                note({**described(request, operation), "outcome": "unknown"})
            raise
        entry = {"status": response.status, "outcome": _outcome(response.status)}
        if code := request.get(ERROR_CODE):
            entry["code"] = code
        if response.status in _REFUSED:
            left_out = limit.take(asyncio.get_running_loop().time())
            if left_out is not None:
                more = {"leftOut": left_out} if left_out else {}
                note({**described(request, operation), **entry, **more})
        elif is_audited:
            note({**described(request, operation), **entry})
        return response

    return watch


def described(request: web.Request, operation: Operation | None) -> dict[str, Any]:
    """Caller, address, operation and path of a request, as fields of an audit entry."""
    entry: dict[str, Any] = {
        "caller": _shortened(str(request.get(CALLER) or "unknown")),
        "from": remote_of(request) or "local",
        "operation": operation.id if operation is not None else "none",
        "method": _shortened(request.method),
        "path": _shortened(request.path),
    }
    if name := request.match_info.get("name"):
        entry[operation.subject if operation is not None else "endpoint"] = _shortened(name)
    if instance := request.headers.get(FORWARDED_BY):
        # Unverified claims of the forwarding instance; `from` is its address.
        entry |= {"forwardedBy": _shortened(instance), "forwardedFor": _shortened(_header(request, FORWARDED_FOR))}
    if identifier := _header(request, CLIENT_REQUEST_ID):
        entry["clientRequestId"] = _shortened(identifier)
    return entry


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status < 500 else "failed"


def _header(request: web.Request, name: str) -> str:
    return request.headers.get(name, "")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS] + "…"
