"""Signatures of the addresses of artifacts: each is good for one artifact, one right and a short time. Pure."""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote

from workspace.azureml.azure_errors import AzureError

READ, WRITE = "r", "cw"
LIFE_S = 24 * 3600
"""A large upload over a slow link takes hours."""


def signed_path(key: bytes, artifact: str, right: str, now: float) -> str:
    """Path and query of one artifact.

    key: of this process. artifact: its id. right: READ or WRITE. now: unix seconds.
    """
    expiry = int(now) + LIFE_S
    return f"{quote(artifact)}?sp={right}&se={expiry}&sig={_signature(key, artifact, right, expiry)}"


def check_signature(key: bytes, artifact: str, right: str, query: Mapping[str, str], now: float) -> None:
    """Raises AzureError unless the query of a request is signed for this artifact and right.

    key: of this process. artifact: its id. right: READ or WRITE. query: of the request. now: unix seconds.
    """
    expiry = query.get("se", "")
    wanted = _signature(key, artifact, right, int(expiry)) if expiry.isdecimal() and len(expiry) < 15 else ""
    if query.get("sp") != right or not wanted or not hmac.compare_digest(wanted, query.get("sig", "")):
        raise AzureError(403, "AuthenticationFailed", "the signature of the address is missing or wrong")
    if int(expiry) < now:
        raise AzureError(403, "AuthenticationFailed", "the address has expired; ask for a new one")


def _signature(key: bytes, artifact: str, right: str, expiry: int) -> str:
    return hmac.new(key, f"{right}\n{expiry}\n{artifact}".encode(), hashlib.sha256).hexdigest()
