"""The audit log: one line of JSON for each change, each reading of a credential and each refused attempt.

Lines go to the logger `scorefront.audit`; the processes choose where that writes to (`scorefront.audit_output`). No
line
holds a credential, a body or a query string, and JSON keeps what clients send from forging a line.
"""

import asyncio
import datetime
import json
import logging
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.kubernetes.client.backoff import TokenBucket
from controlplane.openapi import Operation
from controlplane.rest_guard import CALLER, ERROR_CODE, Handler

FORWARDED_BY = "Scorefront-Forwarded-By"
"""The instance that has passed a request on; see `controlplane.leader_proxy`."""
FORWARDED_FOR = "Scorefront-Forwarded-For"
"""The address that it was sent from to that instance."""
CLIENT_REQUEST_ID = "x-ms-client-request-id"
REFUSED_PER_S = 1.0
REFUSED_BURST = 20.0
"""Refused attempts in a row that get a line each; further ones are counted, at one line a second."""
MAX_CHARACTERS = 256
"""Of each text that a client chose."""

_REFUSED = (401, 403)
_log = logging.getLogger("scorefront.audit")


def note(entry: Mapping[str, Any]) -> None:
    """Write one line. `entry`: JSON values by name; the formatter adds the time."""
    _log.info("%s", json.dumps(entry))


class AuditFormatter(logging.Formatter):
    """A record of `note` as one line of JSON: `audit`, `time` and the entry."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        return json.dumps({"audit": True, "time": at.replace("+00:00", "Z"), **json.loads(record.getMessage())})


class AttemptLimit:
    """How many refused attempts get a line. Pure."""

    def __init__(self) -> None:
        self._bucket = TokenBucket(REFUSED_PER_S, REFUSED_BURST)
        self._next_s = 0.0
        self._left_out = 0

    def take(self, now: float) -> int | None:
        """The number of attempts left out since the last line; None: this one is left out, too."""
        if now < self._next_s:
            self._left_out += 1
            return None
        self._next_s = now + self._bucket.take(now)
        left_out, self._left_out = self._left_out, 0
        return left_out


def audited(operations: Mapping[str, Operation]) -> Middleware:
    """Note what is changed, which credentials are read, and what is refused. `operations`: by their id."""
    limit = AttemptLimit()

    @web.middleware
    async def watch(request: web.Request, handler: Handler) -> web.StreamResponse:
        operation = operations.get(request.match_info.route.name or "")
        is_audited = operation is not None and operation.is_audited
        try:
            response = await handler(request)
        except BaseException:
            # Cancelled, or the client is gone: whether it was done is not known.
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
    """Who asked for what, from where."""
    entry: dict[str, Any] = {
        "caller": _shortened(str(request.get(CALLER) or "unknown")),
        "from": request.remote or "local",
        "operation": operation.id if operation is not None else "none",
        "method": _shortened(request.method),
        "path": _shortened(request.path),
    }
    if name := request.match_info.get("name"):
        entry["endpoint"] = _shortened(name)
    if instance := request.headers.get(FORWARDED_BY):
        # Claims of the instance in between: `from` is its address.
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
