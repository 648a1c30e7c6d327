"""The end of an installation or of a namespace: rights of the control plane are deleted together with the endpoints.

A finalizer blocks the deletion for ever once the controller's rights are deleted, so it is removed at once.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound
from cluster.kubernetes.client.paths import DEPLOYMENTS, ENDPOINTS, NAMESPACES, path
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.finalizer import remove_finalizer
from cluster.kubernetes.objects.labels import FINALIZER
from cluster.provider import ProviderError

CONTROL = "scorefront-control"
"""Deployment of the control plane."""

_log = logging.getLogger(__name__)


class EndOfInstallation:
    """Detects the deletion of the control plane's Deployment, and of namespaces."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._uid = ""
        """Uid of the Deployment; "" without one, e.g. for a control plane outside of pods."""

    async def begin(self) -> None:
        """Remember the Deployment."""
        try:
            found = await self._api.get(path(DEPLOYMENTS, self._api.home, CONTROL))
        except ApiError as error:
            _log.info("Deployment %s: not read: %s", CONTROL, error)
        else:
            self._uid = found["metadata"]["uid"]

    async def among(self, namespaces: Collection[str]) -> Collection[str]:
        """Those that are being deleted, or all if the installation is; none as well if the API does not say."""
        if not namespaces or await self.is_near():
            return namespaces
        return {each for each in namespaces if await self._is_terminating(each)}

    async def is_near(self) -> bool:
        """True if the Deployment of the control plane is deleted, or its namespace is being deleted."""
        if await self._is_terminating(self._api.home):
            return True
        if not self._uid:
            return False
        try:
            found = await self._api.get(path(DEPLOYMENTS, self._api.home, CONTROL))
        except NotFound:
            return True
        except ApiError:
            return False
        return _is_leaving(found) or found["metadata"]["uid"] != self._uid

    async def _is_terminating(self, namespace: str) -> bool:
        try:
            return _is_leaving(await self._api.get(path(NAMESPACES, None, namespace)))
        except ApiError:
            return False


def _is_leaving(found: Mapping[str, Any]) -> bool:
    return found["metadata"].get("deletionTimestamp") is not None


async def remove_finalizers(api: Api, namespaces: Iterable[str | None]) -> None:
    """Remove the finalizers of all endpoints of `namespaces`; None: of all namespaces. Failures are logged."""
    objects = EndpointObjects()
    for namespace in namespaces:
        try:
            for found in (await api.get(path(ENDPOINTS, namespace))).get("items") or ():
                if FINALIZER in (found["metadata"].get("finalizers") or ()):
                    await remove_finalizer(api, objects, found)
        except (ApiError, ProviderError) as error:
            _log.warning("finalizers of %s: not removed: %s", namespace or "all namespaces", error)
