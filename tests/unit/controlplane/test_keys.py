import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.keys import KEY_CHARACTERS, KeyPair, KeyType, digests, key_from, pair_from, regenerated, with_key

ENTROPY = st.binary(min_size=32, max_size=32)


@given(ENTROPY)
def test_a_key_is_43_letters_and_digits(entropy: bytes) -> None:
    key = key_from(entropy)
    assert len(key) == KEY_CHARACTERS and key.isascii() and key.isalnum()


@given(ENTROPY, ENTROPY)
def test_different_entropy_never_gives_the_same_key(one: bytes, other: bytes) -> None:
    assert (key_from(one) == key_from(other)) == (one == other)


def test_the_greatest_entropy_fits_too() -> None:
    assert key_from(b"\xff" * 32) != key_from(b"\xff" * 31 + b"\xfe")


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_less_or_more_entropy_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        key_from(b"x" * size)


def test_the_two_keys_of_a_pair_are_independent() -> None:
    pair = pair_from(b"a" * 32 + b"b" * 32 + b"c" * 16)
    assert pair == KeyPair(key_from(b"a" * 32), key_from(b"b" * 32), (b"c" * 16).hex())
    assert pair.primary != pair.secondary


@pytest.mark.parametrize("which", list(KeyType))
def test_regenerating_one_key_leaves_the_other(which: KeyType) -> None:
    before = pair_from(bytes(80))
    after = regenerated(before, which, b"n" * 32)
    changed = {"primary": before.primary != after.primary, "secondary": before.secondary != after.secondary}
    assert changed == {each.value: each is which for each in KeyType}


def test_routers_get_digests_only() -> None:
    pair = KeyPair("one", "two")
    assert digests("iris", pair).digests == (hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest())


def test_a_key_is_not_in_the_repr_of_its_pair() -> None:
    assert "secret" not in repr(KeyPair("secret-1", "secret-2"))


@pytest.mark.parametrize("which", list(KeyType))
def test_a_key_that_was_brought_along_replaces_one_and_leaves_the_other(which: KeyType) -> None:
    pair = KeyPair("a" * 43, "b" * 43, "i")
    changed = with_key(pair, which, "v1-key-0123456789+/==")
    (other,) = set(KeyType) - {which}
    assert getattr(changed, which) == "v1-key-0123456789+/==" and getattr(changed, other) == getattr(pair, other)


@pytest.mark.parametrize(
    "key", ["", "short", "x" * 15, "x" * 513, "with space 0123456789", "line\n" + "x" * 20, "ü" * 20]
)
def test_a_key_that_is_too_short_or_not_visible_ascii_is_refused_without_being_shown(key: Any) -> None:
    with pytest.raises(ValueError, match="16 to 512 visible ASCII") as refusal:
        with_key(KeyPair("a" * 43, "b" * 43), KeyType.PRIMARY, key)
    assert not key or key not in str(refusal.value)


def test_a_key_must_differ_from_the_other() -> None:
    with pytest.raises(ValueError, match="differ"):
        with_key(KeyPair("a" * 43, "b" * 43), KeyType.PRIMARY, "b" * 43)
