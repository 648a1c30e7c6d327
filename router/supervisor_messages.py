"""What a supervisor and its workers say to each other, besides what the control plane and the workers do.

Both travel in one order on one link, framed as `cluster.link` does. From a worker's start to its end:

    worker       Joined                  its peers can reach it
    supervisor   SetView                 it is a member now; so are the others, and they know of it
    worker       Serving                 it has a table and a view that names it, and accepts connections
    supervisor   SetView                 it may own versions
    supervisor   SetView, then Leave     another worker serves in its place, or there shall be fewer
    worker       (ends)                  nothing is left

No slot is handed over here: that is between the workers (`router.core.slot_messages`), as the views tell them to.
"""

from collections.abc import Callable

import msgspec

from cluster.framing import body_decoder, encode_frame
from cluster.link import MAX_FRAME_BYTES, ToControl, ToWorker
from router.core.view import View

# ---- supervisor -> worker


class SetView(msgspec.Struct, tag=True, frozen=True):
    """Who takes part from now on. A worker is sent every view that it is a member of, in the order of their epochs."""

    view: View


class Leave(msgspec.Struct, tag=True, frozen=True):
    """Accept no more, give idle connections to other members, end what has been begun; then end, with status 0.

    Slots for what is left are had as before: the worker is a member until it has ended.
    """


class Give(msgspec.Struct, tag=True, frozen=True):
    """Pass so many connections to this member of the same group: idle ones now, others once they are.

    Fewer is fine, and none is where none can pass. A new order stands in the place of what is left of the one before.
    """

    taker: str
    count: int


# ---- worker -> supervisor


class Joined(msgspec.Struct, tag=True, frozen=True):
    """Its peers can reach the worker at its address: it can be told of as a member."""


FromSupervisor = ToWorker | SetView | Leave | Give
FromWorker = ToControl | Joined

decode_for_worker: Callable[[bytes | memoryview], FromSupervisor] = body_decoder(FromSupervisor)
decode_for_supervisor: Callable[[bytes | memoryview], FromWorker] = body_decoder(FromWorker)


def encode(message: FromSupervisor | FromWorker) -> bytes:
    """`message` as one frame. Raises LinkError above MAX_FRAME_BYTES."""
    return encode_frame(message, MAX_FRAME_BYTES)
