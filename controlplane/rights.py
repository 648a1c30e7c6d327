"""Kubernetes rights required by REST operations. Pure."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Right:
    """Kubernetes right required of a caller without the control token."""

    verb: str = ""
    """On ScoringEndpoints, or GET of `url`; DECLARE: update, or create if absent; "": any authenticated caller."""
    subresource: str = ""
    """Subresource of ScoringEndpoints; the right can be granted although the API server serves no such subresource."""
    url: str = ""
    """Non-resource URL. Below /api every authenticated caller has `get` by default."""


DECLARE: Final = "create or update"
