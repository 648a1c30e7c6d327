"""Memory for bodies held whole: requests before they take a slot, responses after they have released it. Pure."""


class BodyBudget:
    """Memory of all bodies that one worker holds beyond the buffers of its connections."""

    __slots__ = ("_limit_bytes", "used_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.used_bytes = 0
        self._limit_bytes = limit_bytes

    def resize(self, charged_bytes: int, wanted_bytes: int) -> bool:
        """Change a charge; False, without effect, if the total would exceed the limit. To shrink one always succeeds.

        `charged_bytes`: the charge so far, 0 for a new one. `wanted_bytes`: the charge from now on, 0 to end it.
        """
        more = wanted_bytes - charged_bytes
        if more > 0 and self.used_bytes + more > self._limit_bytes:
            return False
        self.used_bytes += more
        return True
