"""Changes of a scaling policy as text: `target=50,min=2`."""

from collections.abc import Mapping
from dataclasses import replace

from serving.endpoint import AutoscalePolicy
from serving.models import MAX_REPLICAS

DAY_S = 86_400
POLICY_OPTIONS: Mapping[str, tuple[int, int]] = {
    "target": (1, 100),
    "min": (1, MAX_REPLICAS),
    "max": (1, MAX_REPLICAS),
    "window": (1, DAY_S),
    "refresh": (1, 3600),
}
"""Name -> range; all are whole numbers: percent, replicas, seconds."""


def policy_changes(text: str, options: Mapping[str, tuple[int, int]] = POLICY_OPTIONS) -> dict[str, int]:
    """The changes by name. Raises ValueError with the name, its value and the rule.

    text: `NAME=N` pairs, separated by commas.
    options: allowed names and their ranges.
    """
    given: dict[str, int] = {}
    for pair in text.split(","):
        name, _, number = pair.strip().partition("=")
        if name not in options or name in given:
            raise ValueError(f"{pair.strip()!r}: must be NAME=N with one of {', '.join(options)}, each once")
        low, high = options[name]
        if not number.isdecimal() or not low <= int(number) <= high:
            raise ValueError(f"{name}: must be a whole number from {low} to {high}; got {number!r}")
        given[name] = int(number)
    return given


def policy_text(policy: AutoscalePolicy) -> str:
    """A policy in the words of `policy_changes`."""
    return (
        f"target={policy.target_utilization * 100:g},min={policy.min_replicas},max={policy.max_replicas}"
        f",window={policy.scale_down_window_s:g}"
    )


def with_changes(policy: AutoscalePolicy, changes: Mapping[str, int]) -> AutoscalePolicy:
    """The policy with these changes. Raises ValueError if the minimum is above the maximum."""
    changed = replace(
        policy,
        min_replicas=changes.get("min", policy.min_replicas),
        max_replicas=changes.get("max", policy.max_replicas),
        target_utilization=changes["target"] / 100 if "target" in changes else policy.target_utilization,
        refresh_period_s=float(changes.get("refresh", policy.refresh_period_s)),
        scale_down_window_s=float(changes.get("window", policy.scale_down_window_s)),
    )
    if changed.min_replicas > changed.max_replicas:
        raise ValueError(f"min: must be at most max ({changed.max_replicas}); got {changed.min_replicas}")
    return changed
