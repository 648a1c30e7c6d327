"""Two ends of a session over an in-memory channel, reliable or faulty."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.slot_messages import PeerMessage, Ping
from router.peers.frames import MAJOR, Batch, Frame, Hello
from router.peers.session import Answered, Broken, Delivered, Opened, Session, SessionState, Step


def opened() -> tuple[Session, Session]:
    """The connecting end and the accepting end."""
    a, b = Session("a", "b", 11), Session("b", "", 22)
    answered = b.receive(a.greet())
    assert isinstance(answered, Answered) and answered.peer == "a"
    up = a.receive(answered.hello)
    assert isinstance(up, Opened) and up.confirm is not None
    assert b.receive(up.confirm) == Opened(None, ())
    return a, b


def reason(step: Step | None) -> str:
    assert isinstance(step, Broken), step
    return step.reason


def test_a_session_is_open_at_both_ends_after_hello_answer_and_confirmation() -> None:
    a, b = opened()
    assert (a.state, a.peer, b.state, b.peer) == (SessionState.OPEN, "b", SessionState.OPEN, "a")


def test_messages_go_both_ways_in_order() -> None:
    a, b = opened()
    for sender, receiver in ((a, b), (b, a)):
        for number in range(3):
            assert receiver.receive(sender.pack((Ping(number),))) == Delivered((Ping(number),))


def test_the_end_that_was_connected_to_is_not_open_before_the_other_has_confirmed() -> None:
    """Otherwise an abandoned connection in a backlog would count as a link."""
    a, b = Session("a", "b", 11), Session("b", "", 22)
    assert isinstance(b.receive(a.greet()), Answered)
    assert b.state is SessionState.ANSWERED


def test_a_frame_that_comes_twice_is_dropped_and_counted() -> None:
    a, b = opened()
    batch = a.pack((Ping(1),))
    assert b.receive(batch) == Delivered((Ping(1),))
    assert b.receive(batch) is None
    assert (b.duplicates, b.state) == (1, SessionState.OPEN)


def test_a_hello_that_comes_twice_is_dropped_and_counted() -> None:
    a, b = Session("a", "b", 11), Session("b", "", 22)
    b.receive(a.greet())
    assert b.receive(a.greet()) is None
    assert (b.duplicates, b.state) == (1, SessionState.ANSWERED)


def test_a_frame_that_is_missing_breaks_the_session() -> None:
    a, b = opened()
    a.pack((Ping(1),))
    assert reason(b.receive(a.pack((Ping(2),)))) == "frame 3 after frame 1"
    assert b.state is SessionState.BROKEN


def test_nothing_is_delivered_by_a_session_that_is_broken() -> None:
    a, b = opened()
    batch = a.pack((Ping(1),))
    b.break_off("the channel is gone")
    assert b.receive(batch) is None
    assert b.receive(a.greet()) is None


def test_a_frame_of_another_session_breaks_this_one() -> None:
    _, b = opened()
    assert reason(b.receive(Batch(12345, 2, ()))) == "frame of another session"


def test_an_answer_to_another_hello_breaks_the_session() -> None:
    old, new = Session("a", "b", 11), Session("a", "b", 12)
    answered = Session("b", "", 22).receive(old.greet())
    assert isinstance(answered, Answered)
    assert reason(new.receive(answered.hello)) == "Hello of another session"


def test_the_confirmation_of_another_session_does_not_open_this_one() -> None:
    a, b = Session("a", "b", 11), Session("b", "", 22)
    confirm = a.receive(Hello(MAJOR, 0, "b", "a", 11 << 32 | 99))
    assert isinstance(confirm, Opened) and confirm.confirm is not None
    b.receive(a.greet())
    assert reason(b.receive(confirm.confirm)) == "frame of another session"


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (Hello(MAJOR + 1, 0, "a", "b", 11 << 32), "version"),
        (Hello(MAJOR, 0, "a", "c", 11 << 32), "Hello for 'c'"),
        (Hello(MAJOR, 0, "", "b", 11 << 32), "Hello from ''"),
        (Hello(MAJOR, 0, "b", "b", 11 << 32), "Hello from 'b'"),
        (Hello(MAJOR, 0, "a", "b", 11), "another session"),
        (Hello(MAJOR, 0, "a", "b", -1 << 32), "another session"),
        (Hello(MAJOR, 0, "a", "b", 1 << 64), "another session"),
    ],
)
def test_a_hello_that_is_not_of_a_peer_of_this_worker_breaks_the_session(hello: Hello, why: str) -> None:
    assert why in reason(Session("b", "", 22).receive(hello))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Hello(MAJOR + 1, 0, "b", "a", 11 << 32 | 22), "version"),
        (Hello(MAJOR, 0, "c", "a", 11 << 32 | 22), "Hello from 'c', expected 'b'"),
        (Hello(MAJOR, 0, "b", "x", 11 << 32 | 22), "Hello for 'x'"),
        (Hello(MAJOR, 0, "b", "a", 12 << 32 | 22), "another session"),
    ],
)
def test_an_answer_of_another_peer_breaks_the_session(answer: Hello, why: str) -> None:
    assert why in reason(Session("a", "b", 11).receive(answer))


def test_a_newer_minor_of_the_protocol_is_welcome_and_known() -> None:
    b = Session("b", "", 22)
    assert isinstance(b.receive(Hello(MAJOR, 9, "a", "b", 11 << 32)), Answered)
    assert b.peer_minor == 9


@pytest.mark.parametrize("session", [Session("a", "b", 11), Session("b", "", 22)], ids=["connects", "is connected to"])
def test_messages_before_hello_break_the_session(session: Session) -> None:
    assert reason(session.receive(Batch(0, 1, ()))) == "messages before Hello"


def test_a_second_hello_unlike_the_first_breaks_the_session() -> None:
    _, b = opened()
    assert "second Hello" in reason(b.receive(Session("a", "b", 99).greet()))


# ---- over a channel that loses, repeats and reorders


class Channel:
    """Frames under way in both directions."""

    def __init__(self) -> None:
        self.ends = (Session("a", "b", 11), Session("b", "", 22))
        self.on_the_way: tuple[list[Frame], list[Frame]] = ([self.ends[0].greet()], [])
        self.sent: tuple[list[PeerMessage], list[PeerMessage]] = ([], [])
        self.delivered: tuple[list[PeerMessage], list[PeerMessage]] = ([], [])

    def send(self, end: int) -> None:
        """Send a message if the session is open."""
        if self.ends[end].state is SessionState.OPEN:
            message = Ping(len(self.sent[end]))
            self.sent[end].append(message)
            self.on_the_way[end].append(self.ends[end].pack((message,)))

    def arrive(self, sender: int, place: int) -> None:
        """Deliver the frame at this place, before those ahead of it."""
        frames = self.on_the_way[sender]
        if frames:
            self.take(sender, frames.pop(place % len(frames)))

    def take(self, sender: int, frame: Frame) -> None:
        receiver = 1 - sender
        step = self.ends[receiver].receive(frame)
        if isinstance(step, Answered):
            self.on_the_way[receiver].append(step.hello)
        elif isinstance(step, Opened):
            if step.confirm is not None:
                self.on_the_way[receiver].append(step.confirm)
            self.delivered[sender].extend(step.messages)
        elif isinstance(step, Delivered):
            self.delivered[sender].extend(step.messages)

    def twice(self, sender: int, place: int) -> None:
        frames = self.on_the_way[sender]
        if frames:
            frames.insert(place % len(frames), frames[place % len(frames)])

    def lose(self, sender: int, place: int) -> None:
        frames = self.on_the_way[sender]
        if frames:
            del frames[place % len(frames)]

    def check(self) -> None:
        for sender in (0, 1):
            delivered = self.delivered[sender]
            assert delivered == self.sent[sender][: len(delivered)]


GOOD = ("send", "first")
BAD = ("lose", "twice", "later")
moves = st.tuples(st.sampled_from(GOOD * 4 + BAD), st.integers(0, 1), st.integers(0, 5))


def play(channel: Channel, moves: Sequence[tuple[str, int, int]]) -> None:
    for kind, end, place in moves:
        match kind:
            case "send":
                channel.send(end)
            case "first":
                channel.arrive(end, 0)
            case "later":
                channel.arrive(end, place)
            case "twice":
                channel.twice(end, place)
            case "lose":
                channel.lose(end, place)
        channel.check()


@given(st.lists(moves, max_size=80))
def test_over_any_channel_messages_are_delivered_once_and_in_order_or_not_at_all(
    moves: list[tuple[str, int, int]],
) -> None:
    play(Channel(), moves)


@given(st.lists(st.tuples(st.sampled_from((*GOOD, "repeat")), st.integers(0, 1), st.just(0)), max_size=80))
def test_a_channel_that_only_repeats_its_last_frame_breaks_nothing(moves: list[tuple[str, int, int]]) -> None:
    channel = Channel()
    for kind, end, _ in moves:
        if kind == "repeat" and channel.on_the_way[end]:
            channel.take(end, channel.on_the_way[end][0])  # and once more when its turn comes
            channel.arrive(end, 0)
        else:
            play(channel, [(kind, end, 0)])
    while any(channel.on_the_way):
        play(channel, [("first", 0, 0), ("first", 1, 0)])
    assert [end.state for end in channel.ends] == [SessionState.OPEN, SessionState.OPEN]
    assert channel.delivered == channel.sent


def test_a_channel_that_loses_is_found_out_with_the_next_frame() -> None:
    """Check of the test: the properties above would hold for a session that delivers nothing."""
    channel = Channel()
    play(channel, [("first", 0, 0), ("first", 1, 0), ("first", 0, 0)])
    play(channel, [("send", 0, 0), ("send", 0, 0), ("send", 0, 0), ("first", 0, 0), ("lose", 0, 0), ("first", 0, 0)])
    assert channel.delivered[0] == [Ping(0)]
    assert channel.ends[1].state is SessionState.BROKEN
