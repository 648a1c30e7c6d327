"""Deployment configurations: limits, scaling and authentication of a service."""

from collections.abc import Mapping
from typing import Any

from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.service_rules import creation_faults, service_name_fault
from scorefront.sdk.service_settings import endpoint_payload, service_payload


class AksServiceDeploymentConfiguration:
    """Configuration of a service; made by `AksWebservice.deploy_configuration`.

    Every parameter is an attribute; None: the default of the service.
    """

    def __init__(self, **settings: Any) -> None:
        """`settings`: parameters of `AksWebservice.deploy_configuration`. Raises WebserviceException."""
        self._settings = settings
        self.validate_configuration()

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_settings"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown()})"

    def validate_configuration(self) -> None:
        """Raises WebserviceException with every broken rule, a line each."""
        if faults := creation_faults(self._settings):
            raise WebserviceException("\n".join(faults))

    def print_deploy_configuration(self) -> None:
        """Print the parameters that are given; keys are not shown."""
        print(f"Deployment configuration: {self._shown()}")

    def create_payload(
        self, name: str, image: Mapping[str, Any] | None, compute: str | None, overwrite: bool
    ) -> dict[str, Any]:
        """Body of the request that creates the service.

        name: of the service. image: its code. compute: name of the compute target.
        overwrite: True to replace a service of that name.
        """
        return service_payload(name, self._settings, image, compute, overwrite)

    def _shown(self) -> str:
        given = {key: value for key, value in self._settings.items() if value is not None}
        return ", ".join(f"{key}={'...' if key.endswith('_key') else repr(value)}" for key, value in given.items())


class AksEndpointDeploymentConfiguration(AksServiceDeploymentConfiguration):
    """Configuration of an endpoint and its first version; made by `AksEndpoint.deploy_configuration`."""

    def validate_configuration(self) -> None:
        """Raises WebserviceException with every broken rule, a line each."""
        super().validate_configuration()
        self.validate_endpoint_configuration()

    def validate_endpoint_configuration(self) -> None:
        """Raises WebserviceException for an invalid name of the version."""
        version = self._settings.get("version_name")
        if version is not None and (fault := service_name_fault(version)):
            raise WebserviceException(fault)

    def create_payload(
        self, name: str, image: Mapping[str, Any] | None, compute: str | None, overwrite: bool
    ) -> dict[str, Any]:
        """Body of the request that creates the endpoint.

        name: of the endpoint. image: code of the first version. compute: name of the compute target.
        overwrite: True to replace an endpoint of that name.
        """
        return endpoint_payload(name, self._settings, image, compute, overwrite)
