"""Errors of the SDK, with the names of Azure ML v1."""


class AzureMLException(Exception):
    """Any error of this SDK."""

    def __init__(self, message: str, status_code: int | None = None, code: str = "") -> None:
        """An error.

        message: text for people.
        status_code: HTTP status of the response; None: no response.
        code: one word of the response, e.g. WebserviceNotFound; "": none.
        """
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code


class UserErrorException(AzureMLException):
    """An invalid argument."""


class WorkspaceException(AzureMLException):
    """No workspace: not reachable, or no credential for it."""


class WebserviceException(AzureMLException):
    """A refused or failed deployment, or a request that a service refused."""


class ComputeTargetException(AzureMLException):
    """An invalid compute target."""


class ModelNotFoundException(AzureMLException):
    """No such model in the workspace."""


class ModelPathNotFoundException(AzureMLException):
    """No such file or folder."""


class EnvironmentNotFoundException(AzureMLException):
    """No such environment in the workspace."""
