"""Operation objects of Azure ML v1. Pure."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cluster.timed_line import TimedLine
from workspace.azureml.azure_errors import error_document
from workspace.deployments.records import DeploymentOperation, OperationState, OperationStep

TAIL_LINES = 30
"""Last log lines of a replica in an error."""
_SEPARATORS = re.compile(r"[#|]")


def iso(at_s: float) -> str:
    """Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")


def operation_object(
    operation: DeploymentOperation, log: Sequence[TimedLine], offset: int | None, log_url: str
) -> dict[str, Any]:
    """The operation as the SDK reads it.

    operation: one. log: its lines.
    offset: characters of the log that the client has; None: it wants no log.
    log_url: address of the log.
    """
    in_environment = operation.step is OperationStep.ENVIRONMENT
    answer: dict[str, Any] = {
        "id": operation.id,
        "operationType": "Service",
        "state": operation.state.value,
        "createdTime": iso(operation.created),
        "endTime": None if operation.ended is None else iso(operation.ended),
        "error": operation_error(operation),
        "resourceLocation": f"/services/{operation.endpoint}",
        "operationLog": log_url,
        "operationDetails": {
            "subOperationType": "BuildEnvironment" if in_environment else "DeployService",
            "subOperationState": operation.state.value,
        },
        "parentRequestId": operation.id,
    }
    if offset is not None and (text := streamed(log, offset)):
        answer["streamingOperationLog"] = text
    return answer


def operation_error(operation: DeploymentOperation) -> dict[str, Any] | None:
    """Why an operation did not succeed, with its step; None: no error."""
    if operation.state not in (OperationState.FAILED, OperationState.CANCELLED, OperationState.TIMED_OUT):
        return None
    error = operation.error
    if error is None:
        return error_document(500, operation.state.value, f"the operation ended as {operation.state.value}")
    step = error.step or operation.step
    message = f"{step.value}: {error.message}" if step is not None else error.message
    tail = "\n".join(error.log_tail[-TAIL_LINES:])
    details = [{"code": error.code, "message": tail, "target": "log"}] if tail else []
    status = 504 if operation.state is OperationState.TIMED_OUT else 400
    return error_document(status, error.code, message, details)


def streamed(log: Sequence[TimedLine], offset: int) -> str:
    """The part of a log that a client lacks: `yyyymmddHHMMSS|text`, separated by `#`.

    log: all lines. offset: characters that the client has.
    """
    lines = (f"{_stamp(line.at_s)}|{_SEPARATORS.sub(' ', line.text)}" for line in log)
    return "#".join(lines)[max(0, offset) :]


def _stamp(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y%m%d%H%M%S")
