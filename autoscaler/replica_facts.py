"""The replicas of one version as far as scaling depends on them. Providers report them alike (`serving.replica`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """Replicas of one version at one instant. The newest template is that of the replica created last."""

    ready: int = 0
    """Ready replicas of the newest template."""
    failing: int = 0
    """Replicas of the newest template that have failed, or start again after a failed start."""
    starting: int = 0
    """Replicas on their way to a first readiness."""
    unplaced: int = 0
    """Replicas that no machine has room for."""
    start_s: float = 0.0
    """Longest time from creation to readiness of the present replicas, in seconds; 0.0 when unknown."""
    first_start: bool = False
    """No replica is ready, and none of the present ones has been."""
    hindrance: str = ""
    """First line of the reason of a failing or unplaced replica, for people."""
