"""Replicas whose connections are closed after each answer for a while. Pure.

A server with few threads gives each connection a thread for as long as it is open: idle connections of some workers
keep it from serving new ones of others. A worker sees only that a replica is silent on a new connection, as a slow one
is. So the time grows with repetition: without kept connections a request costs several times the CPU, which is little
beside an answer that takes so long.
"""

FIRST_S = {True: 30.0, False: 1.0}
"""First time, for a replica with one slot and for another one: only few servers with more slots have fewer threads."""
LONGEST_S = 30.0
"""Longest time, and how long after its end the last one is remembered."""
REPORT_S = 0.5
"""Least time between two reports of stalls of a replica."""


class UnkeptReplicas:
    """Ends and lengths of these times."""

    __slots__ = ("_reported", "_times")

    def __init__(self) -> None:
        self._times: dict[str, tuple[float, float]] = {}
        self._reported: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._times)

    def add(self, replica_id: str, slots: int, now: float) -> None:
        """Keep no connections for a while, twice as long as the last time; no effect within that time.

        `slots`: of the replica. `now`: monotonic seconds.
        """
        end, length_s = self._times.get(replica_id, (-LONGEST_S, 0.0))
        if now < end:
            return
        length_s = max(FIRST_S[slots == 1], 2 * length_s if now < end + LONGEST_S else 0.0)
        length_s = min(length_s, LONGEST_S)
        self._times[replica_id] = (now + length_s, length_s)

    def reports(self, replica_id: str, now: float) -> bool:
        """True if a stall is to be reported to the other workers: once in REPORT_S, every request may be slow."""
        if now < self._reported.get(replica_id, -REPORT_S) + REPORT_S:
            return False
        self._reported[replica_id] = now
        return True

    def includes(self, replica_id: str, now: float) -> bool:
        """True if no connection to the replica is kept."""
        time = self._times.get(replica_id)
        return time is not None and now < time[0]

    def forget_old(self, now: float) -> None:
        """Forget the times that count no longer."""
        for replica_id in [replica_id for replica_id, (end, _) in self._times.items() if end + LONGEST_S < now]:
            del self._times[replica_id]
        for replica_id in [replica_id for replica_id, moment in self._reported.items() if moment + REPORT_S < now]:
            del self._reported[replica_id]
