"""Request ids are GUIDs that never repeat; a client's own id is kept only as far as it is harmless."""

import uuid

from hypothesis import assume, given
from hypothesis import strategies as st

from router.core.ids import CLIENT_ID_MAX, RequestIds, kept_client_id

ENTROPY = st.binary(min_size=16, max_size=16)


@given(ENTROPY)
def test_an_id_is_a_guid_of_version_4(entropy: bytes) -> None:
    text = RequestIds(entropy).next().decode()
    guid = uuid.UUID(text)
    assert str(guid) == text and len(text) == 36
    assert guid.version == 4 and guid.variant == uuid.RFC_4122


def test_ids_of_one_worker_never_repeat() -> None:
    ids = RequestIds(bytes(16))
    assert len({ids.next() for _ in range(10_000)}) == 10_000


def test_ids_go_on_when_the_counter_is_full() -> None:
    ids = RequestIds(b"\xff" * 16)
    assert [ids.next()[-12:] for _ in range(2)] == [b"000000000000", b"000000000001"]


def test_worker_ids_differ_by_74_random_bits() -> None:
    one_bit_set = [(1 << bit).to_bytes(16, "big") for bit in range(48, 128)]
    prefixes = {RequestIds(entropy).next()[:24] for entropy in one_bit_set}
    assert len(prefixes - {RequestIds(bytes(16)).next()[:24]}) == 74


@given(ENTROPY, ENTROPY)
def test_workers_with_different_entropy_share_no_ids(one: bytes, other: bytes) -> None:
    mine, theirs = RequestIds(one), RequestIds(other)
    assume(mine.next()[:24] != theirs.next()[:24])
    assert not {mine.next() for _ in range(50)} & {theirs.next() for _ in range(50)}


@given(st.binary(max_size=100))
def test_a_client_id_is_cut_to_letters_digits_dash_and_underscore(value: bytes) -> None:
    kept = kept_client_id(value)
    allowed = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
    assert kept == bytes(byte for byte in value if byte in allowed)[:CLIENT_ID_MAX]


def test_a_client_id_cannot_break_out_of_its_line() -> None:
    assert kept_client_id(b"abc\r\nSet-Cookie: x=y") == b"abcSet-Cookiexy"
    assert kept_client_id(b"a" * 41) == b"a" * 40
    assert kept_client_id("caf\xe9".encode()) == b"caf"
    assert kept_client_id(b"\xff \t") == b""
