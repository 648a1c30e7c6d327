"""The user behind a connection from this machine, asked of the kernel for each request."""

import socket
from collections.abc import Collection

from aiohttp import web
from aiohttp.typedefs import Middleware

from cluster.local import socket_owner as socketowner
from controlplane.control_errors import NotYours
from controlplane.rest_guard import CALLER, Handler


def trusted_users_only(uids: Collection[int]) -> Middleware:
    """Refuse every request whose connection does not belong to one of `uids`; else name the user as `guard.CALLER`.

    The kernel is asked for each request, since an answer for a connection would have to be kept as long as that; it
    costs some 30 µs.
    """

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            uid = peer_uid(request.transport)
        except socketowner.Unanswerable as error:
            raise NotYours(f"refused: {error}; use `up --control unix:PATH` or `up --control-token`") from error
        if uid not in uids:
            raise NotYours(_refusal(uid, uids))
        request[CALLER] = f"uid {uid}"
        return await handler(request)

    return check


def peer_uid(transport: object) -> int | None:
    """The user at the other end of a TCP or Unix connection from this machine; None: unknown, e.g. gone already.

    Raises socketowner.Unanswerable.
    """
    told = getattr(transport, "get_extra_info", lambda name: None)
    sock = told("socket")
    if sock is None:
        return None
    if sock.family == socket.AF_UNIX:
        return socketowner.unix_peer_uid(sock)
    peer, here = told("peername"), told("sockname")
    if not peer or not here:
        return None
    return socketowner.connection_uid(peer[:2], here[:2])


def _refusal(uid: int | None, uids: Collection[int]) -> str:
    owners = " and ".join(f"uid {one}" for one in sorted(uids, reverse=True)) or "nobody"
    who = "the connection belongs to no process of this machine" if uid is None else f"you are uid {uid}"
    return f"this control port answers {owners} only; {who}. Ask the user who runs `scorefront up`"
