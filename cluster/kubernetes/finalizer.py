"""The finalizer of a ScoringEndpoint: it delays deletion until the workloads of the endpoint are drained."""

from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound, WriteConflict
from cluster.kubernetes.client.conflict_retry import update
from cluster.kubernetes.client.paths import ENDPOINTS, path
from cluster.kubernetes.endpoint_objects import EndpointObjects
from cluster.kubernetes.failed_calls import failed
from cluster.kubernetes.objects.labels import FINALIZER
from cluster.provider import ProviderError

Object = dict[str, Any]


async def add_finalizer(api: Api, objects: EndpointObjects, found: Object) -> None:
    """Add our finalizer, before anything is made for the object. Raises ProviderError."""
    await _change(api, objects, found, wanted=True)


async def remove_finalizer(api: Api, objects: EndpointObjects, found: Object) -> None:
    """Remove our finalizer: nothing is left of the endpoint. Raises ProviderError."""
    await _change(api, objects, found, wanted=False)


async def _change(api: Api, objects: EndpointObjects, found: Object, wanted: bool) -> None:
    uid, where = found["metadata"]["uid"], path(ENDPOINTS, found["metadata"]["namespace"], found["metadata"]["name"])

    async def write(newest: Object) -> None:
        metadata = newest["metadata"]
        there = list(metadata.get("finalizers") or ())
        if (FINALIZER in there) is wanted or metadata["uid"] != uid:
            return
        # The merge replaces the whole list; the resourceVersion protects changes that others have just made.
        after = [*there, FINALIZER] if wanted else [each for each in there if each != FINALIZER]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": after}}
        try:
            objects.put(await api.merge(where, body))
        except NotFound:
            return
        except WriteConflict:
            raise
        except ApiError as error:
            raise failed(f"write the finalizer of {where}", error) from error

    async def reread() -> Object:
        try:
            return await api.get(where)
        except ApiError as error:
            raise failed(f"read {where}", error) from error

    await update(found, write, reread, ProviderError(f"the finalizer of {where} is changed by others again and again"))
