"""Messages between a supervisor and its workers, besides those of the control plane (`cluster.link`).

Both share one ordered link and its framing. From a worker's start to its end:

    worker       Joined                  listens for its peers
    supervisor   SetView                 the worker is a member
    worker       Serving                 has a routing table and a view that names it; accepts connections
    supervisor   SetView                 the worker may own versions
    supervisor   SetView, then Leave     the worker is replaced or surplus
    worker       (ends)                  no connection is left

Slots move between the workers themselves (`router.core.slot_messages`), as the views demand.
"""

from collections.abc import Callable

import msgspec

from cluster.framing import body_decoder, encode_frame
from cluster.link import MAX_FRAME_BYTES, ToControl, ToWorker
from router.core.view import View

# ---- supervisor -> worker


class SetView(msgspec.Struct, tag=True, frozen=True):
    """The members from now on. A worker gets every view that names it, in the order of epochs."""

    view: View


class Leave(msgspec.Struct, tag=True, frozen=True):
    """Stop accepting, hand idle connections over to other members, finish requests in flight, end with status 0.

    The worker stays a member, and gets slots as before, until it has ended.
    """


class Give(msgspec.Struct, tag=True, frozen=True):
    """Hand `count` connections over to this member of the same group: idle ones now, others when they become idle.

    Best effort. A new order replaces the rest of the previous one.
    """

    taker: str
    count: int


# ---- worker -> supervisor


class Joined(msgspec.Struct, tag=True, frozen=True):
    """The worker listens for its peers at its address and can become a member."""


FromSupervisor = ToWorker | SetView | Leave | Give
FromWorker = ToControl | Joined

decode_for_worker: Callable[[bytes | memoryview], FromSupervisor] = body_decoder(FromSupervisor)
decode_for_supervisor: Callable[[bytes | memoryview], FromWorker] = body_decoder(FromWorker)


def encode(message: FromSupervisor | FromWorker) -> bytes:
    """`message` as one frame. Raises LinkError above MAX_FRAME_BYTES."""
    return encode_frame(message, MAX_FRAME_BYTES)
