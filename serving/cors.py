"""The part `cors` of the declared object."""

from typing import Annotated

from pydantic import Field

from serving.declared_model import DAY_S, DeclaredModel, FieldRule

_HOST_NAME = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ORIGIN_RULE = (
    'scheme://host or scheme://host:port in lower case without a path, with "*." for the subdomains of a name with a'
    ' dot (*.example.com), or "*" alone'
)
Origin = Annotated[
    str,
    Field(
        pattern=rf"^(\*|[a-z][a-z0-9+.-]{{0,30}}://(\*(\.{_HOST_NAME}){{2,9}}|{_HOST_NAME}(\.{_HOST_NAME}){{0,9}}"
        rf"|\[[0-9a-f:.]{{2,45}}\])(:{_PORT})?)$",
        max_length=300,
    ),
    FieldRule(ORIGIN_RULE),
]
FIELD_NAME_PATTERN = r"^[!#-'*+.^_`|~0-9A-Za-z-]+$"
FieldName = Annotated[
    str,
    Field(pattern=FIELD_NAME_PATTERN, max_length=100),
    FieldRule('the name of a header field of at most 100 characters, or "*" alone'),
]
CORS_HEADERS = ("Authorization", "Content-Type", "azureml-model-deployment", "x-ms-client-request-id")


class DeclaredCors(DeclaredModel):
    """Scripts of browsers that may call the endpoint from other origins."""

    allowOrigins: Annotated[
        list[Origin],
        Field(min_length=1, max_length=100),
        FieldRule(f"a list of 1 to 100 origins, each {ORIGIN_RULE}"),
    ] = Field(description='Origins of the pages whose scripts may call; "*" alone for every origin.')
    allowHeaders: Annotated[
        list[FieldName],
        Field(min_length=1, max_length=100),
        FieldRule('a list of 1 to 100 names of header fields, or "*" alone'),
    ] = Field(
        default_factory=lambda: list(CORS_HEADERS),
        description='Header fields that scripts may send; "*" alone for every field. Default:'
        f" {', '.join(CORS_HEADERS)}.",
    )
    maxAgeSeconds: int = Field(600, ge=0, le=DAY_S, description="Seconds for which browsers may keep the permission.")
