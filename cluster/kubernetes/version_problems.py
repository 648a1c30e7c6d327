"""Reasons for not running a version as declared. Pure."""

from cluster.kubernetes.ownership import NotWritable
from serving.endpoint import VersionKey


class VersionProblems:
    """Kept for the status until it is over."""

    def __init__(self) -> None:
        self._withheld: dict[VersionKey, NotWritable] = {}
        self._conflicts: dict[VersionKey, str] = {}
        self._reported: dict[VersionKey, str] = {}

    def is_new(self, key: VersionKey, error: Exception) -> bool:
        """True if this error differs from the last one of the version: repeated attempts are logged once."""
        before = self._reported.get(key)
        self._reported[key] = str(error)
        return before != str(error)

    def settled(self, key: VersionKey) -> None:
        """The last try went well."""
        self._reported.pop(key, None)

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
        for key in {*self._withheld, *self._conflicts, *self._reported}:
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
