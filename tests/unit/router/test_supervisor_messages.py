"""Messages between a supervisor and its workers survive the wire."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cluster.framing import FrameReader, LinkError
from cluster.link import MAX_FRAME_BYTES, Collect, Drained, RemoveReplica, Serving
from router.core.view import Departed, Member, View
from router.supervisor_messages import Give, Joined, Leave, SetView, decode_for_supervisor, decode_for_worker, encode

VIEW = View(
    3,
    (Member("w0-g-1", "unix:a/1"), Member("w1-g-2", "10.0.0.2:7000", eligible=False)),
    (Departed("w0-g-0", {"r1": 2}), Departed("w1-g-0", None), Departed("w2-g-3", {})),
)


def bodies(*frames: bytes) -> list[bytes]:
    return list(FrameReader(bytes, MAX_FRAME_BYTES).feed(b"".join(frames)))


def test_orders_and_the_news_of_control_come_in_one_order() -> None:
    told = (SetView(VIEW), RemoveReplica("r1"), Leave(), Collect(7), Give("w1-g-2", 3))
    assert tuple(map(decode_for_worker, bodies(*[encode(message) for message in told]))) == told


def test_an_unknown_record_of_a_dead_worker_is_not_an_empty_one() -> None:
    (body,) = bodies(encode(SetView(VIEW)))
    message = decode_for_worker(body)
    assert isinstance(message, SetView)
    assert [each.held for each in message.view.departed] == [{"r1": 2}, None, {}]


def test_messages_of_workers_have_one_order() -> None:
    said = (Joined(), Serving(42), Drained("r1"))
    assert tuple(map(decode_for_supervisor, bodies(*[encode(message) for message in said]))) == said


@pytest.mark.parametrize("decode", [decode_for_worker, decode_for_supervisor])
@pytest.mark.parametrize("body", [b"", b"\xc1", msgspec.msgpack.encode({"type": "Sing"}), encode(Joined())])
def test_invalid_messages_are_refused(decode: Callable[..., Any], body: bytes) -> None:
    with pytest.raises(LinkError):
        decode(body)


def test_messages_of_the_other_direction_are_refused() -> None:
    (order,), (news,) = bodies(encode(Leave())), bodies(encode(Joined()))
    with pytest.raises(LinkError):
        decode_for_supervisor(order)
    with pytest.raises(LinkError):
        decode_for_worker(news)
