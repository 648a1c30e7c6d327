"""Records of deployments: the request, and the operation that carries it out. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from workspace.environments.spec import EnvironmentSpec


class OperationState(StrEnum):
    """State of an operation, in the words of Azure ML v1."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    TIMED_OUT = "TimedOut"


class OperationKind(StrEnum):
    """Kind of an operation."""

    CREATE = "Create"
    """A deployment of new code: a new endpoint, a new version, or a version replaced."""
    UPDATE = "Update"
    """A changed declaration without new code."""
    DELETE = "Delete"
    REGENERATE_KEYS = "RegenerateKeys"


class OperationStep(StrEnum):
    """Step of a deployment, in order."""

    VALIDATE = "validate"
    SNAPSHOT = "snapshot"
    ENVIRONMENT = "environment"
    MODELS = "models"
    START = "start"
    READY = "ready"


STEPS: Mapping[OperationKind, tuple[OperationStep, ...]] = {
    OperationKind.CREATE: tuple(OperationStep),
    OperationKind.UPDATE: (OperationStep.VALIDATE, OperationStep.START, OperationStep.READY),
    OperationKind.DELETE: (),
    OperationKind.REGENERATE_KEYS: (),
}
"""Kind -> its steps, in order."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the source directory, by its blob."""

    path: str
    """Relative to the source directory, with "/"."""
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """Request to deploy one version of an endpoint."""

    endpoint: str
    version: str
    document: Mapping[str, Any]
    """The declared object. The `replica` of `version` has an `entryScript` relative to the source, and `env`, but no
    sourceDirectory, modelDir or environment; other versions are as they are declared now."""
    source: tuple[SourceFile, ...] = ()
    models: tuple[tuple[str, int], ...] = ()
    """(name, version) each."""
    environment: EnvironmentSpec | None = None
    """None: the Python of scorefront."""
    keys: tuple[str | None, str | None] | None = field(default=None, repr=False)
    """Primary and secondary key of a new endpoint; None: generated ones."""
    replaces: bool = False
    """True: the version may be declared already, and is replaced."""


@dataclass(frozen=True, slots=True)
class OperationError:
    """Reason of an operation that did not succeed."""

    code: str
    """One word, e.g. BuildFailed."""
    message: str
    """The reason for people, on one line or with the last lines of a log."""
    step: OperationStep | None = None
    log_tail: tuple[str, ...] = ()
    """Last log lines of the replica that did not get ready."""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step that has begun."""

    step: OperationStep
    began: float
    """Unix seconds."""
    ended: float | None = None
    """Unix seconds; None: not ended."""
    note: str = ""
    """Result, e.g. `found` or `built` for an environment."""


@dataclass(frozen=True, slots=True)
class DeploymentOperation:
    """One deployment, or another change, from its request to its end."""

    id: str
    kind: OperationKind
    endpoint: str
    version: str
    """"": the whole endpoint."""
    created: float
    """Unix seconds."""
    state: OperationState = OperationState.NOT_STARTED
    step: OperationStep | None = None
    """Current step, or the one in which it ended; None: not begun, or without steps."""
    ended: float | None = None
    """Unix seconds; None: not ended."""
    error: OperationError | None = None
    steps: tuple[StepRecord, ...] = ()
    """Steps that have begun, in order."""
    undoing: OperationState | None = None
    """State in which it will end, while what it has declared is taken back; None: nothing is taken back."""

    @property
    def is_ended(self) -> bool:
        """True if it will not change any more."""
        return self.state not in (OperationState.NOT_STARTED, OperationState.RUNNING)


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """Everything that is known of an operation: as much as a restart needs to go on."""

    operation: DeploymentOperation
    request: DeploymentRequest | None = None
    """None: no deployment of new code."""
    document: Mapping[str, Any] | None = None
    """The declaration to make, for a change without new code."""
    base: Mapping[str, Any] | None = None
    """The declaration before the operation; None: none."""
    declared: Mapping[str, Any] | None = None
    """The declaration made by the operation; None: not yet."""
    environment_key: str = ""
    interpreter: str = ""
    """Of the environment; "": that of scorefront."""
    dismissed: bool = False
    """True: its failure is no longer shown as the state of the endpoint."""

    @property
    def id(self) -> str:
        """Of the operation."""
        return self.operation.id

    def without_keys(self) -> "DeploymentRecord":
        """The record without keys, which are needed until they are set."""
        return self if self.request is None else replace(self, request=replace(self.request, keys=None))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of one declared version."""

    endpoint: str
    version: str
    operation: str
    """Id of the operation that deployed it."""
    deployed: float
    """Unix seconds: end of that operation, or its creation while it runs."""
    source: tuple[SourceFile, ...]
    entry_script: str
    """Relative to the source."""
    models: tuple[tuple[str, int], ...]
    """(name, version) each."""
    environment_key: str
    """"": the Python of scorefront."""
    environment_name: str = ""
    environment_version: str = ""


@dataclass(frozen=True, slots=True)
class FailedEndpoint:
    """An endpoint whose first deployment has failed: shown with its reason, but not declared."""

    name: str
    document: Mapping[str, Any]
    operation: DeploymentOperation
