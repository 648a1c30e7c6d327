"""Draining of one worker: for a replacement (`hand_over`), or before the end of the router (`drain`)."""

import asyncio
from typing import Any

from router.proxy.gateway import Gateway
from router.proxy.listeners import Listeners
from router.worker.peering import Peering

SETTLE_S = 0.005
"""After the end of accepting: connections accepted just before become known."""
DRAIN_S = 0.1
"""Interval of the checks for idle connections while draining."""
FLUSH_S = 0.5
"""Time for the last answers to reach their clients."""
HAND_OVER_S = 0.01
"""Interval of the checks for connections that can be handed over."""


async def hand_over(
    gateway: Gateway, peering: Peering, listeners: Listeners, tls: bool, ends: set[asyncio.Task[Any]]
) -> bool:
    """Hand connections over to the other workers and finish requests in flight; False if one of `ends` came first.

    `tls`: the listeners use TLS, so connections cannot be handed over; clients are asked to reconnect instead.
    """
    loop = asyncio.get_running_loop()
    listeners.close()
    # TLS state cannot be handed over: the next response asks the client to reconnect.
    gateway.draining = tls
    await asyncio.wait(ends, timeout=SETTLE_S, return_when=asyncio.FIRST_COMPLETED)
    tunnels_until = loop.time() + gateway.settings.drain_timeout_s
    while not any(task.done() for task in ends):
        peering.give_all()
        gateway.clients.leave_worker()
        if loop.time() >= tunnels_until:
            gateway.clients.close_tunnels()
        if gateway.clients.empty.is_set():
            return True
        await asyncio.wait(ends, timeout=HAND_OVER_S, return_when=asyncio.FIRST_COMPLETED)
    gateway.handoff.start((), 0)
    return False


async def drain(gateway: Gateway, listeners: Listeners, ends: set[asyncio.Task[Any]]) -> None:
    """Report not ready, accept for the lame-duck time, finish requests in flight, at last answer them with an error."""
    loop = asyncio.get_running_loop()
    settings = gateway.settings
    gateway.draining = True
    gateway.own_pages.ready = False
    ends = {task for task in ends if not task.done()}
    if settings.lame_duck_s:
        await asyncio.wait(ends, timeout=settings.lame_duck_s, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(SETTLE_S)  # connections that wait to be accepted are served, not reset
    listeners.close()
    empty = loop.create_task(gateway.clients.empty.wait(), name="wait for the last client")
    deadline = loop.time() + settings.drain_timeout_s
    while not empty.done() and not any(task.done() for task in ends) and (left := deadline - loop.time()) > 0:
        gateway.drain()  # repeatedly: a response that had begun could not ask its client to reconnect
        pause = min(left, DRAIN_S)
        await asyncio.wait({*ends, empty}, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
    gateway.clients.end_requests()
    await asyncio.wait({empty}, timeout=FLUSH_S)
    empty.cancel()
    gateway.clients.abort()
