"""Keys of endpoints in one Secret, and their visible part."""

import base64
from typing import Any

import pytest

from cluster.kubernetes.objects.keys import (
    MAX_KEY_CHARACTERS,
    KeyEntry,
    digests_of,
    encoded_entry,
    entry_in,
    entry_key,
    stale_entries,
)
from cluster.provider import ProviderError
from controlplane import keys as made

ENTRY = KeyEntry("u-1", "P" * 43, "S" * 43)
SECRET_BYTES = 1 << 20
"""The most that the values of a Secret may take (core/v1 MaxSecretSize)."""


def found(uid: str = "u-1", name: str = "iris", namespace: str = "home") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": namespace, "uid": uid}}


def stored(value: bytes = encoded_entry(ENTRY), key: str = "home.iris") -> dict[str, Any]:
    data = {key: base64.b64encode(value).decode()}
    return {"metadata": {"name": "scorefront-keys", "namespace": "scorefront"}, "data": data}


def test_the_keys_come_back_from_their_secret() -> None:
    assert entry_in(stored(), found()) == ENTRY


def test_the_clear_text_is_in_no_repr() -> None:
    assert "PPP" not in repr(ENTRY) and "SSS" not in repr(ENTRY)


@pytest.mark.parametrize(
    "other", [found(uid="u-2"), found(name="isis"), found(namespace="house")], ids=["uid", "name", "namespace"]
)
def test_keys_of_another_endpoint_are_not_read(other: dict[str, Any]) -> None:
    assert entry_in(stored(), other) is None


def test_no_two_endpoints_share_an_entry() -> None:
    places = [(namespace, name) for namespace in ("a", "a-b", "b") for name in ("iris", "b-iris", "a-iris")]
    assert len({entry_key(found(name=name, namespace=namespace)) for namespace, name in places}) == len(places)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"nonsense", "malformed"),
        (b'{"uid": "u-1"}', "primaryKey"),
        (b'{"uid":"u-1","primaryKey":"' + b"P" * 43 + b'","secondaryKey":"' + b"S" * 43 + b'","x":1}', "unknown field"),
        (encoded_entry(KeyEntry("u-1", "short", "S" * 43)), "primaryKey must have 32 to 256 characters, has 5"),
        (encoded_entry(KeyEntry("u-1", "P" * 43, "two words " * 10)), "secondaryKey must be printable ASCII"),
        (encoded_entry(KeyEntry("u-1", "P" * 43, "line\nbreak" * 10)), "secondaryKey must be printable ASCII"),
        (encoded_entry(KeyEntry("u-1", "P" * 43, "schlüssel" * 10)), "secondaryKey must be printable ASCII"),
        (encoded_entry(KeyEntry("u-1", "P" * 257, "S" * 43)), "primaryKey must have 32 to 256 characters, has 257"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_remedy_and_not_shown(value: bytes, words: str) -> None:
    with pytest.raises(ProviderError) as refused:
        entry_in(stored(value), found())
    told = str(refused.value)
    assert words in told and "entry home.iris in Secret scorefront-keys" in told
    assert (
        """kubectl -n scorefront patch secret scorefront-keys --type=merge -p '{"data":{"home.iris":null}}'""" in told
    )
    assert "PPPP" not in told and "two words" not in told and "schl" not in told


def test_invalid_base64_is_named() -> None:
    secret = stored()
    secret["data"]["home.iris"] = "%%%"
    with pytest.raises(ProviderError, match=r"home\.iris is no base64"):
        entry_in(secret, found())


def test_keys_without_their_endpoint_are_stale_in_watched_namespaces() -> None:
    keys = ("home.iris", "home.gone", "home.other", "elsewhere.gone")
    secret = stored()
    secret["data"] = dict.fromkeys(keys, secret["data"]["home.iris"])
    uids = {"home.iris": "u-1", "home.other": "u-2"}
    assert list(stale_entries(secret, uids, frozenset({"home"}))) == ["home.gone", "home.other"]
    assert list(stale_entries(secret, uids, frozenset())) == ["home.gone", "home.other", "elsewhere.gone"]


def test_a_thousand_endpoints_with_the_longest_names_fit_in_a_secret() -> None:
    uid = "6a1f2c34-0000-4000-8000-000000000000"
    entry = encoded_entry(KeyEntry(uid, "P" * made.KEY_CHARACTERS, "S" * made.KEY_CHARACTERS, "f" * 32))
    assert 1_000 * (len(entry) + 63 + 1 + 32) < SECRET_BYTES / 3
    longest = encoded_entry(KeyEntry(uid, "P" * MAX_KEY_CHARACTERS, "S" * MAX_KEY_CHARACTERS, "f" * 32))
    assert 1_000 * len(longest) < SECRET_BYTES, "also with the longest keys that a user may bring"


def test_the_digests_are_those_that_routers_compare_with() -> None:
    pair = made.pair_from(bytes(range(80)))
    digests = digests_of(pair.primary, pair.secondary)
    expected = made.digests("iris", pair).digests
    assert (digests["primarySha256"], digests["secondarySha256"]) == tuple(digest.hex() for digest in expected)


def test_the_keys_that_scorefront_makes_can_be_used() -> None:
    pair = made.pair_from(bytes(80))
    entry = KeyEntry("u-1", pair.primary, pair.secondary, pair.incarnation)
    assert entry_in(stored(encoded_entry(entry)), found()) == entry
