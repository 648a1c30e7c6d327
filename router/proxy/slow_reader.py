"""A client that reads more slowly than its response comes: memory and progress of the unsent bytes. Pure."""

from router.core.body_budget import BodyBudget


class SlowReader:
    """From the pause of a client's transport until it has caught up."""

    __slots__ = ("_budget", "_charged_bytes", "_expected_bytes", "_limit_bytes")

    def __init__(self, budget: BodyBudget, limit_bytes: int, pending_bytes: int) -> None:
        """`budget`: memory of the worker. `limit_bytes`: of this client. `pending_bytes`: not yet received by it."""
        self._budget = budget
        self._limit_bytes = limit_bytes
        self._charged_bytes = 0
        self._expected_bytes = pending_bytes
        """Bytes that would be pending if the client had read nothing since the last `progressed`."""

    def hold(self, unsent_bytes: int, added_bytes: int) -> bool:
        """Charge the unsent bytes; False if they are more than the limits allow.

        `unsent_bytes`: in the transport. `added_bytes`: written to it since the last call.
        """
        self._expected_bytes += added_bytes
        if unsent_bytes > self._limit_bytes or not self._budget.resize(self._charged_bytes, unsent_bytes):
            return False
        self._charged_bytes = unsent_bytes
        return True

    def progressed(self, pending_bytes: int, least_bytes: int) -> bool:
        """True if the client has received enough since the last call.

        `pending_bytes`: not yet received by it. `least_bytes`: enough; fewer if no more were pending.
        """
        least_bytes, received = min(least_bytes, self._expected_bytes), self._expected_bytes - pending_bytes
        self._expected_bytes = pending_bytes
        return received >= max(1, least_bytes)

    def release(self) -> None:
        """End the charge."""
        self._budget.resize(self._charged_bytes, 0)
        self._charged_bytes = 0
