"""One Secret in the namespace of the installation. The manifests create it without data; only its content is written.

RBAC can name an object for get and patch, but not for create. So the right to create Secrets is not needed at all.
"""

import base64
from collections.abc import Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import NotFound
from cluster.kubernetes.client.paths import SECRETS, path

Object = dict[str, Any]


class HomeSecret:
    """Reads and patches the Secret `name`."""

    def __init__(self, api: Api, name: str) -> None:
        self._api = api
        self._name = name

    async def read(self) -> Object:
        """Read the Secret. Raises ApiError; NotFound names the manifest to apply."""
        try:
            return await self._api.get(path(SECRETS, self._api.home, self._name))
        except NotFound as error:
            text = f"Secret {self._api.home}/{self._name} is missing: apply deploy/base/secrets.yaml again"
            raise NotFound(text, error.status, error.reason) from error

    async def write(
        self, found: Object, data: Mapping[str, bytes | None], annotations: Mapping[str, str | None] | None = None
    ) -> Object:
        """Change some keys of the Secret and return the new object.

        found: the object as it was read; the write fails with Conflict if it has changed since.
        data: new values; None removes a key; other keys stay as they are.
        annotations: likewise; default: no change.
        Raises ApiError.
        """
        encoded = {key: None if value is None else base64.b64encode(value).decode() for key, value in data.items()}
        metadata: Object = {"resourceVersion": found["metadata"]["resourceVersion"]}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return await self._api.merge(path(SECRETS, self._api.home, self._name), {"metadata": metadata, "data": encoded})
