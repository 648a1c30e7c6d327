"""What a caller of REST needs to be allowed in a cluster, where it has a Kubernetes token. Pure."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Right:
    """The Kubernetes right that a caller of an operation needs in a cluster, unless it has the control token."""

    verb: str = ""
    """On ScoringEndpoints, or GET of `url`; DECLARE: create, or update where there is one; "": no right, any caller."""
    subresource: str = ""
    """Of ScoringEndpoints; such a right can be granted though the API server itself serves nothing there."""
    url: str = ""
    """A path without objects (nonResourceURLs). Below /api every authenticated caller has `get` by default."""


DECLARE: Final = "create or update"
