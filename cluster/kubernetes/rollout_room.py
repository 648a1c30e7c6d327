"""The versions whose rollout stops a pod before the new one starts, since there is no room for both. Pure."""

from serving.endpoint import VersionKey

BLOCKED_S = 60.0
"""A new pod may wait so long for room beside the old ones, e.g. for a node that a cluster autoscaler adds."""


class RolloutRoom:
    """Judged again and again; a version changes at most twice in a rollout."""

    def __init__(self) -> None:
        self._blocked_since: dict[VersionKey, float] = {}
        self._replacing: set[VersionKey] = set()

    def replaces(self, key: VersionKey) -> bool:
        """True if a pod is to be stopped first."""
        return key in self._replacing

    def note(self, key: VersionKey, is_rolling: bool, is_blocked: bool, now: float) -> bool:
        """Record the state of a version; True if `replaces` has changed.

        is_rolling: pods of an older template are replaced.
        is_blocked: a pod that is wanted finds no room.
        now: seconds on a monotonic clock.
        """
        if not is_rolling:
            self._blocked_since.pop(key, None)
            was = key in self._replacing
            self._replacing.discard(key)
            return was
        if not is_blocked:
            self._blocked_since.pop(key, None)
            return False
        if now - self._blocked_since.setdefault(key, now) < BLOCKED_S or key in self._replacing:
            return False
        self._replacing.add(key)
        return True

    def forget(self, key: VersionKey) -> None:
        """Forget a version that is not declared."""
        self._blocked_since.pop(key, None)
        self._replacing.discard(key)
