"""The traffic split of an endpoint."""

import math
from collections.abc import Mapping
from typing import Any

from serving.document import to_document
from serving.faults import Fault, InvalidManifest, Path, written
from serving.models import ScoringEndpoint


def effective_shares(percentiles: Mapping[str, float | None], default: str) -> dict[str, float]:
    """Version name -> fraction of the traffic, summing to 1: its own percentile, and all unclaimed traffic to
    `default`.

    `percentiles`: version name -> percent in [0, 100], summing to at most 100; None is 0. `default` is one of them.
    """
    claimed = {name: percent or 0.0 for name, percent in percentiles.items()}
    others = math.fsum(percent for name, percent in claimed.items() if name != default)
    # Rounded, so that the binary remainder of 33.3 + 33.3 + 33.4 does not become a share.
    claimed[default] = max(0.0, round(100 - others, 9))
    return {name: percent / 100 for name, percent in claimed.items()}


def with_traffic(
    declared: ScoringEndpoint,
    percentiles: Mapping[str, float],
    default: str | None = None,
    control: str | None = None,
) -> dict[str, Any]:
    """A new document with a changed split, to be checked by `parse`; versions not mentioned keep their percentile.

    `document`: the present one. `percentiles`: version name -> percent. `default`, `control`: the versions to get these
    roles; None keeps them. Raises InvalidManifest for unknown versions.
    """
    document = to_document(declared)
    versions = {version["name"]: version for version in document["spec"]["versions"]}
    rule = f"is no version of this endpoint; its versions are {', '.join(versions)}"
    asked: list[tuple[Path, str]] = [(("traffic", name), name) for name in percentiles]
    asked += [((role,), name) for role, name in (("default", default), ("control", control)) if name is not None]
    if faults := tuple(Fault(written(path), name, rule) for path, name in asked if name not in versions):
        raise InvalidManifest(faults)
    for name, version in versions.items():
        version["trafficPercentile"] = percentiles.get(name, version["trafficPercentile"])
        if default is not None:
            version["isDefault"] = name == default
        if control is not None:
            version["type"] = "Control" if name == control else "Treatment"
    return document
