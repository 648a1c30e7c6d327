"""The token of the REST API in a cluster: from the environment, else from a Secret that the first leader makes."""

import base64
import binascii
from collections.abc import Callable, Mapping

from cluster.kubernetes.api import Api, Conflict, NotFound
from cluster.kubernetes.paths import SECRETS, path
from controlplane.errors import StoreError
from controlplane.keys import ENTROPY_BYTES, key_from

VARIABLE = "SCOREFRONT_TOKEN"
SECRET = "scorefront-control-token"
KEY = "token"


async def control_token(api: Api, environment: Mapping[str, str], entropy: Callable[[int], bytes]) -> str:
    """The token; made of `entropy` where there is none. Raises ApiError, StoreError."""
    if told := environment.get(VARIABLE, "").strip():
        return told
    try:
        return _read(await api.get(path(SECRETS, api.home, SECRET)))
    except NotFound:
        pass
    token = key_from(entropy(ENTROPY_BYTES))
    try:
        await api.create(path(SECRETS, api.home), _secret(api.home, token))
    except Conflict:  # somebody was faster
        return _read(await api.get(path(SECRETS, api.home, SECRET)))
    return token


def _secret(namespace: str, token: str) -> dict[str, object]:
    labels = {"app.kubernetes.io/name": "scorefront", "app.kubernetes.io/managed-by": "scorefront"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": {"name": SECRET, "namespace": namespace, "labels": labels},
        "data": {KEY: base64.b64encode(token.encode()).decode()},
    }


def _read(secret: Mapping[str, object]) -> str:
    data = secret.get("data")
    text = data.get(KEY) if isinstance(data, Mapping) else None
    try:
        token = base64.b64decode(str(text or ""), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        token = ""
    if not token:
        raise StoreError(f"Secret {SECRET} holds no {KEY}; delete it to have one made")
    return token
