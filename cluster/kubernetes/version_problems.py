"""Reasons for not running a version as declared. Pure."""

from cluster.kubernetes.ownership import NotWritable
from cluster.provider import ProviderRefused
from cluster.refusals import Refusals
from serving.endpoint import VersionKey


class VersionProblems:
    """Kept for the status until it is over."""

    def __init__(self) -> None:
        self._withheld: dict[VersionKey, NotWritable] = {}
        self._conflicts: dict[VersionKey, str] = {}
        self._reported: dict[VersionKey, str] = {}
        self._refusals: Refusals[VersionKey] = Refusals()

    def failed(self, key: VersionKey, error: Exception, now: float) -> bool:
        """Record a failed try; True if its text differs from the last one: repeated tries are logged once."""
        before = self._reported.get(key)
        self._reported[key] = str(error)
        if isinstance(error, ProviderRefused):
            self._refusals.refused(key, error, now)
        return before != str(error)

    def settled(self, key: VersionKey) -> None:
        """The last try succeeded."""
        self._reported.pop(key, None)
        self._refusals.settled(key)

    def is_due(self, key: VersionKey, now: float) -> bool:
        """False while the next try of a refused version would come too early."""
        return self._refusals.is_due(key, now)

    def refused(self, key: VersionKey) -> str:
        """The refused call, or the refusal to write the workload, of a version; "" if there is none."""
        withheld = self._withheld.get(key)
        return self._refusals.text(key) or (withheld.message if withheld is not None else "")

    def refusals_of(self, endpoint: str) -> str:
        """The refused calls of an endpoint's versions; "" if there are none."""
        found = sorted(key for key in self._refusals.subjects() if key.endpoint == endpoint)
        return "; ".join(f"{key.version}: {self._refusals.text(key)}" for key in found)

    def withhold(self, key: VersionKey, error: NotWritable) -> bool:
        """Record that the workload of a version must not be written; True if this is new, or has a new reason."""
        before = self._withheld.get(key)
        self._withheld[key] = error
        return str(before) != str(error)

    def writable(self, key: VersionKey) -> None:
        """The workload of a version may be written."""
        self._withheld.pop(key, None)

    def conflict(self, key: VersionKey, message: str) -> None:
        """Others own fields of the workload that are declared; "": none do."""
        if message:
            self._conflicts[key] = message
        else:
            self._conflicts.pop(key, None)

    def forget(self, key: VersionKey) -> None:
        """Forget a version that is not declared."""
        self.settled(key)
        self.writable(key)
        self._conflicts.pop(key, None)

    def keep(self, endpoint: str, versions: frozenset[str]) -> None:
        """An endpoint declares these versions and no others."""
        for key in {*self._withheld, *self._conflicts, *self._reported, *self._refusals.subjects()}:
            if key.endpoint == endpoint and key.version not in versions:
                self.forget(key)

    def withheld(self, endpoint: str) -> NotWritable | None:
        """The reason for not writing workloads of an endpoint; None if all may be written."""
        found = {key: error for key, error in self._withheld.items() if key.endpoint == endpoint}
        if not found:
            return None
        message = "; ".join(f"{key.version}: {error.message}" for key, error in found.items())
        return NotWritable(next(iter(found.values())).reason, message)

    def conflicts(self, endpoint: str) -> str:
        """Fields of its workloads that belong to others; "" if none do."""
        return "; ".join(f"{key.version}: {text}" for key, text in self._conflicts.items() if key.endpoint == endpoint)
