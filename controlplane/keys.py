"""The two keys of an endpoint. Pure: entropy comes in as an argument."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum

from serving.credentials import KeyDigests

ENTROPY_BYTES = 32

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# Letters and digits only: a key survives a double click, a shell and an option parser. 62 ** 43 > 2 ** 256.
KEY_CHARACTERS = 43


class KeyType(StrEnum):
    """Which of the two; the values are those of the REST payload."""

    PRIMARY = "primary"
    SECONDARY = "secondary"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Plaintext, because `scorefront keys` shows them; never part of a repr."""

    primary: str = field(repr=False)
    secondary: str = field(repr=False)


def key_from(entropy: bytes) -> str:
    """43 letters and digits that hold all of the 32 bytes of `entropy`."""
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"a key needs {ENTROPY_BYTES} bytes of entropy, got {len(entropy)}")
    number = int.from_bytes(entropy, "big")
    characters = []
    for _ in range(KEY_CHARACTERS):
        number, digit = divmod(number, len(_ALPHABET))
        characters.append(_ALPHABET[digit])
    return "".join(characters)


def pair_from(entropy: bytes) -> KeyPair:
    """Two independent keys from twice 32 bytes."""
    return KeyPair(primary=key_from(entropy[:ENTROPY_BYTES]), secondary=key_from(entropy[ENTROPY_BYTES:]))


def regenerated(pair: KeyPair, which: KeyType, entropy: bytes) -> KeyPair:
    """The pair with one key replaced; the other stays valid, so that clients can move over."""
    if which is KeyType.PRIMARY:
        return replace(pair, primary=key_from(entropy))
    return replace(pair, secondary=key_from(entropy))


def digests(endpoint: str, pair: KeyPair) -> KeyDigests:
    """What routers compare with; a key has 256 bits of entropy, so a plain SHA-256 cannot be searched backwards."""
    return KeyDigests(endpoint, tuple(hashlib.sha256(key.encode()).digest() for key in (pair.primary, pair.secondary)))
