"""Identification of local callers: the kernel is queried for the user of a connection, once per request."""

import socket
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.local.socket_owner import Unanswerable, connection_uid, unix_peer_uid
from controlplane.control_errors import NotYours
from controlplane.rest_guard import CALLER, Handler


def trusted_users_only(uids: Collection[int]) -> Middleware:
    """Middleware that refuses connections of other users than `uids`, and sets `rest_guard.CALLER`.

    The kernel is queried for each request (about 30 µs), because a cached answer could outlive the connection.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            uid = peer_uid(request.transport)
        except Unanswerable as error:
            raise NotYours(f"refused: {error}; use `up --control unix:PATH` or `up --control-token`") from error
        if uid is not None:
            request[CALLER] = f"uid {uid}"  # also in the audit line of a refusal
        if uid not in uids:
            raise NotYours(_refusal(uid, uids))
        return await handler(request)

    return check


def peer_uid(transport: object) -> int | None:
    """Uid of the peer of a local TCP or Unix connection; None: unknown, e.g. already closed.

    Raises Unanswerable.
    """
    extra_info = getattr(transport, "get_extra_info", lambda name: None)
    sock = extra_info("socket")
    if sock is None:
        return None
    if sock.family == socket.AF_UNIX:
        return unix_peer_uid(sock)
    peer, here = extra_info("peername"), extra_info("sockname")
    if not peer or not here:
        return None
    return connection_uid(peer[:2], here[:2])


def _refusal(uid: int | None, uids: Collection[int]) -> str:
    allowed = " and ".join(f"uid {one}" for one in sorted(uids, reverse=True)) or "no user"
    actual = "the connection belongs to no process of this machine" if uid is None else f"you are uid {uid}"
    return f"this control port serves {allowed} only; {actual}. Ask the user that runs `scorefront up`"
