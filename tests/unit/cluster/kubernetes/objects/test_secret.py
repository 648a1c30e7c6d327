"""Keys in a Secret, and what of them may be seen outside it."""

import base64

import pytest

from cluster.kubernetes.objects.labels import OwnerRef
from cluster.kubernetes.objects.secret import Keys, digests_of, key_secret, keys_of
from cluster.provider import ProviderError
from controlplane import keys as made

KEYS = Keys("P" * 43, "S" * 43)
OWNER = OwnerRef("iris", "u-1")


def stored(**changes: str | None):
    secret = key_secret("iris", "home", OWNER, KEYS)
    encoded = {
        name: text if text is None else base64.b64encode(text.encode()).decode() for name, text in changes.items()
    }
    return {**secret, "data": {**secret["data"], **encoded}}


def test_the_keys_come_back_from_their_secret():
    secret = stored()
    assert secret["metadata"]["name"] == "iris-keys"
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "u-1"
    assert keys_of(secret) == KEYS


def test_the_clear_text_is_in_no_repr():
    assert "PPP" not in repr(KEYS) and "SSS" not in repr(KEYS)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "has no secondaryKey"),
        ("", "has no secondaryKey"),
        ("short", "at least 32 characters"),
        ("two words " * 10, "no spaces"),
        ("line\nbreak" * 10, "no control characters"),
        ("schlüssel" * 10, "no ASCII text"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_and_not_shown(key: str | None, words: str):
    with pytest.raises(ProviderError) as refused:
        keys_of(stored(secondaryKey=key))
    assert words in str(refused.value) and "iris-keys" in str(refused.value)
    assert not key or key not in str(refused.value)


def test_what_is_no_base64_is_named():
    secret = stored()
    with pytest.raises(ProviderError, match="no ASCII text"):
        keys_of({**secret, "data": {**secret["data"], "primaryKey": "%%%"}})


def test_a_secret_without_data_is_named():
    with pytest.raises(ProviderError, match="has no primaryKey"):
        keys_of({"metadata": {"name": "iris-keys"}})


def test_the_digests_are_those_that_routers_compare_with():
    pair = made.pair_from(bytes(range(64)))
    digests = digests_of(Keys(pair.primary, pair.secondary))
    expected = made.digests("iris", pair).digests
    assert (digests["primarySha256"], digests["secondarySha256"]) == tuple(digest.hex() for digest in expected)


def test_the_keys_that_scorefront_makes_can_be_used():
    pair = made.pair_from(bytes(64))
    assert keys_of(stored(primaryKey=pair.primary)).primary == pair.primary
