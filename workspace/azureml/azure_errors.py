"""Errors in the shape of Azure ML v1: status, code, message, details. Pure."""

from collections.abc import Iterable
from typing import Any

from controlplane.control_errors import ControlError
from serving.faults import Fault, InvalidManifest

_CODES = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict"}
"""Status -> code of Azure ML for errors of the control plane."""


class AzureError(Exception):
    """An error that is answered in Azure's shape."""

    def __init__(self, status: int, code: str, message: str, details: Iterable[dict[str, Any]] = ()) -> None:
        """An error.

        status: HTTP status.
        code: one word.
        message: text for people.
        details: {code, message, target} each; default: none.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = list(details)

    @property
    def document(self) -> dict[str, Any]:
        """The body of the answer."""
        return error_document(self.status, self.code, str(self), self.details)


def error_document(status: int, code: str, message: str, details: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    """The body of an error.

    status: HTTP status.
    code: one word.
    message: text for people.
    details: {code, message, target} each; default: none.
    """
    return {"code": code, "statusCode": status, "message": message, "details": list(details), "correlation": {}}


def of_faults(faults: Iterable[Fault]) -> AzureError:
    """The error of a payload that breaks rules, one detail for each fault."""
    found = list(faults)
    details = [{"code": "InvalidValue", "message": str(fault), "target": fault.path} for fault in found]
    return AzureError(400, "BadRequest", "\n".join(map(str, found)), details)


def of_control(error: ControlError) -> AzureError:
    """The error of a refusal by the control plane or the workspace."""
    detail = {"code": error.code, "message": str(error), "target": ""}
    return AzureError(error.status, _CODES.get(error.status, error.code), str(error), [detail])


def translated(error: Exception) -> AzureError | None:
    """The error in Azure's shape; None for one that is no refusal."""
    match error:
        case AzureError():
            return error
        case InvalidManifest():
            return of_faults(error.faults)
        case ControlError():
            return of_control(error)
        case _:
            return None


def service_not_found(name: str) -> AzureError:
    """The error of a service that does not exist."""
    return AzureError(404, "WebserviceNotFound", f"Service '{name}' was not found in this workspace.")


def bad_request(message: str, target: str = "") -> AzureError:
    """The error of a malformed request.

    message: the field, its value and the rule.
    target: path of the field; default: none.
    """
    return AzureError(400, "BadRequest", message, [{"code": "InvalidValue", "message": message, "target": target}])
