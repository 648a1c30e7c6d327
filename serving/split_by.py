"""The part `splitBy` of the declared object."""

from typing import Annotated

from pydantic import Field

from serving.cors import FIELD_NAME_PATTERN
from serving.declared_model import DeclaredModel, FieldRule

_TOKEN_RULE = "1 to 100 characters of a token of HTTP: letters, digits and !#$%&'*+.^_`|~-"
Token = Annotated[str, Field(pattern=FIELD_NAME_PATTERN, max_length=100), FieldRule(_TOKEN_RULE)]


class DeclaredSplitBy(DeclaredModel):
    """The value of a request by which its version is chosen: exactly one of header and cookie."""

    header: Token | None = Field(None, description="Name of a header field, such as X-User.")
    cookie: Token | None = Field(None, description="Name of a cookie.")
