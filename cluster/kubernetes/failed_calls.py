"""Errors of the API as errors of the provider. Pure."""

from cluster.kubernetes.client.api_errors import ApiError, RequestRefused
from cluster.provider import ProviderError, ProviderRefused


def failed(what: str, error: ApiError) -> ProviderError:
    """The error of a failed call: `cannot scale Deployment home/iris-blue: PUT …: 403 Forbidden: …`."""
    kind = ProviderRefused if isinstance(error, RequestRefused) else ProviderError
    return kind(f"cannot {what}: {error}")
