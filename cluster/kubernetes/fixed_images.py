"""The part of a provider's interface that only replicas started from files of this machine need."""

from serving.endpoint import Endpoint


class FixedImages:
    """Replicas from images: every declared field counts, and no file of theirs changes."""

    def notes(self, endpoint: Endpoint) -> list[str]:
        """Declared fields without effect: in a cluster all have one."""
        return []

    async def refresh(self, endpoint: Endpoint) -> frozenset[str]:
        """Nothing: images do not change."""
        return frozenset()
