"""The two keys of an endpoint and the incarnation in its tokens. Pure: entropy is an argument."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum

from serving.credentials import KEY_RULE, KeyDigests, is_key

ENTROPY_BYTES = 32
INCARNATION_BYTES = 16
PAIR_BYTES = 2 * ENTROPY_BYTES + INCARNATION_BYTES

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Letters and digits only: a key survives a double click, a shell and an option parser. 62 ** 43 > 2 ** 256.
KEY_CHARACTERS = 43


class KeyType(StrEnum):
    """Primary or secondary key; the values are those of the REST payload."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both keys in plaintext, because `scorefront keys` shows them (hidden in the repr), and the incarnation."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)
    incarnation: str = ""
    """Part of every valid token; public. "": written by a release without incarnations, and no token is valid."""


def key_from(entropy: bytes) -> str:
    """A key of 43 letters and digits, which encodes all 32 bytes of `entropy`. Raises ValueError for another length."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key needs {ENTROPY_BYTES} bytes of entropy, got {len(entropy)}")
    number = int.from_bytes(entropy, "big")
    characters = []
    for _ in range(KEY_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)


def incarnation_from(entropy: bytes) -> str:
    """A new incarnation from 16 bytes: 32 hexadecimal digits. Raises ValueError for another length."""
    if len(entropy) != INCARNATION_BYTES:
        raise ValueError(f"an incarnation needs {INCARNATION_BYTES} bytes of entropy, got {len(entropy)}")
    return entropy.hex()


def pair_from(entropy: bytes) -> KeyPair:
    """Two independent keys and an incarnation from PAIR_BYTES bytes."""
    primary, secondary = entropy[:ENTROPY_BYTES], entropy[ENTROPY_BYTES : 2 * ENTROPY_BYTES]
    return KeyPair(key_from(primary), key_from(secondary), incarnation_from(entropy[2 * ENTROPY_BYTES :]))


def regenerated(pair: KeyPair, which: KeyType, entropy: bytes) -> KeyPair:
    """The pair with one key replaced; the other stays valid while clients switch.

    pair: both keys.
    which: the key to replace.
    entropy: 32 random bytes.
    """
    if which is KeyType.PRIMARY:
        return replace(pair, primary=key_from(entropy))
    return replace(pair, secondary=key_from(entropy))


def with_key(pair: KeyPair, which: KeyType, key: str) -> KeyPair:
    """The pair with one key replaced by a given one. Raises ValueError with the broken rule, without the key.

    pair: both keys.
    which: the key to replace.
    key: the new key.
    """
    if not is_key(key):
        raise ValueError(KEY_RULE)
    if key == (pair.secondary if which is KeyType.PRIMARY else pair.primary):
        raise ValueError("must differ from the other key")
    return replace(pair, primary=key) if which is KeyType.PRIMARY else replace(pair, secondary=key)


def revoked(pair: KeyPair, entropy: bytes) -> KeyPair:
    """The same keys with a new incarnation from 16 bytes, so that every token issued before is invalid."""
    return replace(pair, incarnation=incarnation_from(entropy))


def digests(endpoint: str, pair: KeyPair) -> KeyDigests:
    """Key digests for routers: plain SHA-256, which cannot be inverted by search for a key of 256 bits of entropy.

    A key that a user brings along is as hard to find as its owner made it.
    """
    keys = (pair.primary, pair.secondary)
    return KeyDigests(endpoint, tuple(hashlib.sha256(key.encode()).digest() for key in keys), pair.incarnation)
