"""Annotations that mark a pod as draining, for routers and for the controller of its workload."""

from typing import Any

from cluster.kubernetes.client.api import Api
from cluster.kubernetes.client.api_errors import ApiError, NotFound, RequestRefused
from cluster.kubernetes.client.paths import PODS, path
from cluster.kubernetes.failed_calls import failed
from cluster.kubernetes.objects.labels import DELETION_COST, DRAINING
from cluster.kubernetes.shrinking import PodNow

Object = dict[str, Any]


async def mark(api: Api, namespace: str, pod: PodNow, cost: int) -> Object | None:
    """Annotate a pod; returns the new pod, None if it is gone already. Raises ProviderError."""
    # Of a StatefulSet another one may have come under this name; an object's uid cannot be changed.
    metadata = {"uid": pod.uid, "annotations": {DRAINING: "true", DELETION_COST: str(cost)}}
    try:
        return await api.merge(path(PODS, namespace, pod.name), {"metadata": metadata})
    except NotFound:
        return None
    except RequestRefused as error:
        if "metadata.uid" in error.message:
            return None
        raise failed(f"mark pod {namespace}/{pod.name}", error) from error
    except ApiError as error:
        raise failed(f"mark pod {namespace}/{pod.name}", error) from error
