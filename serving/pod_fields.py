"""Fields of a version that go into the pods made from its image; shapes and names as in a Kubernetes pod."""

from typing import Annotated, Literal

from pydantic import Field

from serving.declared_model import DAY_S, DeclaredModel, FieldRule

MAX_PULL_SECRETS = 10
MAX_SELECTOR = 50
MAX_TOLERATIONS = 50

LabelKey = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        min_length=1,
        max_length=317,
    ),
    FieldRule(
        'a key of labels: an optional domain and "/", then 1 to 63 letters, digits, dashes, underscores and dots,'
        " beginning and ending with a letter or digit"
    ),
]
LabelValue = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$", max_length=63),
    FieldRule(
        "text of at most 63 letters, digits, dashes, underscores and dots, beginning and ending with a letter or digit"
        ' (put quotes around booleans and numbers: "true")'
    ),
]
ObjectName = Annotated[
    str,
    Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253),
    FieldRule("1 to 253 lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit"),
]


class PullSecret(DeclaredModel):
    """A Secret with the credentials of a registry."""

    name: ObjectName = Field(description="Name of the Secret, in the namespace of the endpoint.")


class Toleration(DeclaredModel):
    """Permission for pods to run on nodes with a taint."""

    key: LabelKey | None = Field(None, description="Key of the taint; left out with operator Exists: every taint.")
    operator: Literal["Exists", "Equal"] = Field("Equal", description="Exists: any value of the taint.")
    value: LabelValue | None = Field(None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint; default: every effect."
    )
    tolerationSeconds: int | None = Field(
        None,
        ge=0,
        le=DAY_S,
        description="Seconds on a node with such a taint, with NoExecute; default: no limit.",
    )


PullSecrets = Annotated[
    list[PullSecret],
    Field(min_length=1, max_length=MAX_PULL_SECRETS),
    FieldRule(f"a list of 1 to {MAX_PULL_SECRETS} mappings, each the name of a Secret: {{name: registry}}"),
]
NodeSelector = Annotated[
    dict[LabelKey, LabelValue],
    Field(min_length=1, max_length=MAX_SELECTOR),
    FieldRule(
        f"a mapping of 1 to {MAX_SELECTOR} labels of nodes to their values; put quotes around booleans and numbers:"
        ' "true"'
    ),
]
Tolerations = Annotated[
    list[Toleration],
    Field(min_length=1, max_length=MAX_TOLERATIONS),
    FieldRule(f"a list of 1 to {MAX_TOLERATIONS} tolerations of a pod"),
]
