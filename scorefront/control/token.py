"""The token of the REST API in a cluster: from the environment, else from a Secret that the first leader fills."""

from collections.abc import Callable, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api, WriteConflict
from cluster.kubernetes.home_secret import HomeSecret
from cluster.kubernetes.objects.secret import DamagedSecret, clearing, value_in
from controlplane.control_errors import StoreError
from controlplane.keys import ENTROPY_BYTES, key_from

VARIABLE = "SCOREFRONT_TOKEN"
SECRET = "scorefront-control-token"
KEY = "token"


async def control_token(api: Api, environment: Mapping[str, str], entropy: Callable[[int], bytes]) -> str:
    """The token; created from `entropy` if missing. Raises ApiError, StoreError."""
    if told := environment.get(VARIABLE, "").strip():
        return told
    secret = HomeSecret(api, SECRET)
    found = await secret.read()
    if token := _read(found):
        return token
    token = key_from(entropy(ENTROPY_BYTES))
    try:
        await secret.write(found, {KEY: token.encode()})
    except WriteConflict:  # another process was faster
        token = _read(await secret.read())
    return token


def _read(secret: Mapping[str, Any]) -> str:
    """The token; empty if there is none yet. Raises StoreError."""
    try:
        value = value_in(secret, KEY)
        token = value.decode("ascii").strip()
    except (DamagedSecret, UnicodeDecodeError):
        value, token = b"?", ""
    if value and not token:
        remedy = clearing(secret["metadata"]["namespace"], SECRET)
        raise StoreError(f"Secret {SECRET} holds no usable {KEY}; to have one made: {remedy}")
    return token
