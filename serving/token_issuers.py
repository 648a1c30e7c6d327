"""The part `tokenIssuers` of the declared object."""

from typing import Annotated

from pydantic import Field

from serving.declared_model import DeclaredModel, FieldRule
from serving.endpoint import KEYS_URL_PATTERN

MAX_ISSUERS = 10
MAX_CLAIMS = 20
_VISIBLE = r"^[!-~]+$"
_KEYS_URL_RULE = "a URL that begins with https://, or with http:// and localhost, 127.0.0.1 or [::1]"
Visible = Annotated[
    str,
    Field(pattern=_VISIBLE, max_length=1000),
    FieldRule("1 to 1000 visible ASCII characters, without spaces"),
]
KeysUrl = Annotated[str, Field(pattern=KEYS_URL_PATTERN, max_length=1000), FieldRule(_KEYS_URL_RULE)]


class DeclaredTokenIssuer(DeclaredModel):
    """An issuer of tokens beside scorefront, such as an identity provider."""

    issuer: Visible = Field(description="The `iss` of its tokens, character by character.")
    audience: Visible = Field(description="The `aud` that its tokens must have, alone or in a list.")
    jwksUri: KeysUrl | None = Field(
        None,
        description="URL of its public keys (JWK set). Default: as its OpenID configuration says, at"
        " ISSUER/.well-known/openid-configuration.",
    )
    claims: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=256)], str],
        Field(max_length=MAX_CLAIMS),
        FieldRule(f"a mapping of at most {MAX_CLAIMS} names of claims to text"),
    ] = Field(
        default_factory=dict,
        description="Further claims that its tokens must have: this text, or a list that contains it.",
    )
