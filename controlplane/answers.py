"""Records served by REST. Their JSON Schemas are part of the OpenAPI document. Pure.

The schema of a class has its name without `Answer`.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from autoscaler.policy import Direction
from serving.endpoint import Auth, VersionType

Count = Annotated[int, Meta(extra_json_schema={"minimum": 0})]


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """Base class of the records."""

    def document(self) -> dict[str, Any]:
        """The record as JSON values; unset fields are left out."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


class FaultAnswer(Answer, frozen=True):
    """One broken rule of a manifest."""

    path: str
    value: Any
    rule: str


class ErrorDetailAnswer(Answer, frozen=True):
    """Code and message of an error."""

    code: str
    message: str
    faults: list[FaultAnswer] | UnsetType = UNSET


class ErrorAnswer(Answer, frozen=True):
    """An error."""

    error: ErrorDetailAnswer


class SkippedAnswer(Answer, frozen=True):
    """An endpoint that is not served, because its stored record is damaged."""

    name: str
    message: Annotated[str, Meta(description="the fault of the record: file, field and rule")]


class ReadinessAnswer(Answer, frozen=True):
    """Readiness of the installation."""

    ready: bool
    waiting_for: list[str]
    skipped: list[SkippedAnswer] | UnsetType = UNSET


class VersionStatusAnswer(Answer, frozen=True):
    """Status of one version."""

    share: Annotated[float, Meta(description="effective fraction of the traffic")]
    desired: Count
    ready: Count
    starting: Count
    draining: Count
    failed: Count
    busy: Count
    total: Count
    waiting: Count
    utilization: Annotated[float, Meta(description="busy / total slots of ready replicas")]
    is_default: bool
    type: VersionType
    message: Annotated[
        str, Meta(description="reason of unready or failed replicas, with the last log lines; else empty")
    ]
    problems: Annotated[
        dict[str, str], Meta(description="reason by word: conflict, refused, limited, failing; empty if there is none")
    ]


class StatusAnswer(Answer, frozen=True):
    """Status of an endpoint."""

    ready: bool
    scoring_uri: str
    swagger_uri: str
    auth: Auth
    notes: Annotated[list[str], Meta(description="declared fields without effect here, one line per version")]
    degraded: Annotated[str, Meta(description="why the endpoint does not run as declared; else empty")]
    versions: dict[str, VersionStatusAnswer]


class KeysAnswer(Answer, frozen=True):
    """Both keys of an endpoint."""

    primary_key: str
    secondary_key: str


class TokenAnswer(Answer, frozen=True):
    """A token for an endpoint."""

    access_token: str
    token_type: Literal["Bearer"]
    refresh_after: Annotated[int, Meta(description="unix seconds; fetch the next token after this time")]
    expiry_on: Annotated[int, Meta(description="unix seconds; 12 h after refreshAfter")]


class DecisionAnswer(Answer, frozen=True):
    """A scaling decision of one version."""

    at: Annotated[float, Meta(description="unix seconds: time of the decision")]
    acted_at: Annotated[float | None, Meta(description="unix seconds: acceptance by the provider")]
    version: str
    previous: Count
    desired: Count
    wanted: int
    direction: Direction
    rule: str
    reason: str
    outcome: Annotated[str, Meta(description="why the provider has not accepted the change; else empty")]
    demand: float
    busy: Count
    busy_mean: float
    waiting: Count
    total_slots: Count


class DecisionListAnswer(Answer, frozen=True):
    """Scaling decisions, newest last."""

    value: list[DecisionAnswer]


class DifferenceAnswer(Answer, frozen=True):
    """A span in which another policy would have had another number of replicas. Times are unix seconds."""

    from_: Annotated[float, Meta(description="begin of the span")] = msgspec.field(name="from")
    to: float
    recorded: Count
    what_if: Count
    reason: str


class VersionWhatIfAnswer(Answer, frozen=True):
    """The inputs of the last hour of a version, replayed through another policy. Times are unix seconds."""

    version: str
    policy: str
    from_: Annotated[float, Meta(description="begin of the inputs")] = msgspec.field(name="from")
    to: float
    recorded_replica_seconds: float
    what_if_replica_seconds: float
    differences: list[DifferenceAnswer]


class WhatIfAnswer(Answer, frozen=True):
    """Versions whose scaling decisions another policy would have made otherwise, or not."""

    value: list[VersionWhatIfAnswer]


class FrontEndSizeAnswer(Answer, frozen=True):
    """Size of the front end."""

    workers: Annotated[int, Meta(description="in every router")]
    routers: int


class FrontEndDecisionAnswer(Answer, frozen=True):
    """A decision of front end scaling."""

    at: Annotated[float, Meta(description="unix seconds: time of the decision")]
    previous: FrontEndSizeAnswer
    desired: FrontEndSizeAnswer
    direction: Direction
    rule: str
    reason: str


class FrontEndDecisionListAnswer(Answer, frozen=True):
    """Decisions of front end scaling, newest last."""

    value: list[FrontEndDecisionAnswer]


ANSWERS = (
    ErrorAnswer,
    ReadinessAnswer,
    StatusAnswer,
    KeysAnswer,
    TokenAnswer,
    DecisionListAnswer,
    WhatIfAnswer,
    FrontEndDecisionListAnswer,
)
