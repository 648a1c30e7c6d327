"""The last failed requests of each endpoint, without payloads and credentials."""

from typing import Any

from cluster.link import FailedRequest
from serving.recent_rings import RecentRings

PER_STATUS = 25
"""Most requests with one status of one version: a flood of refusals displaces no other failure."""
MOST_RECORDS = 1000
"""Most requests of one worker, 1 MB."""


class RecentFailures:
    """Access records of failed requests of endpoints; those that reached no version are under version ""."""

    def __init__(self) -> None:
        self._rings: RecentRings[tuple[str, str, int], tuple[int, dict[str, Any]]] = RecentRings(
            PER_STATUS, MOST_RECORDS
        )
        self._count = 0

    def add(self, record: dict[str, Any]) -> None:
        """Keep one access record; one without an endpoint is not kept."""
        if record["endpoint"]:
            self._rings.add((record["endpoint"], record["version"], record["status"]), (self._count, record))
            self._count += 1

    def of(self, endpoint: str, last: int) -> list[FailedRequest]:
        """The newest failed requests of an endpoint, newest first. `last`: most of them."""
        found = [numbered for key, ring in self._rings.items() if key[0] == endpoint for numbered in ring]
        found.sort(key=lambda numbered: numbered[0], reverse=True)
        return [_failed_request(record) for _, record in found[:last]]

    def forget(self, endpoint: str, version: str) -> None:
        """Drop the records of a version that is no longer declared."""
        for key in [key for key, _ in self._rings.items() if key[:2] == (endpoint, version)]:
            self._rings.forget(key)


def _failed_request(record: dict[str, Any]) -> FailedRequest:
    return FailedRequest(
        at=record["time"],
        request_id=record["id"],
        client_request_id=record["clientId"],
        method=record["method"],
        path=record["path"],
        version=record["version"],
        replica=record["replica"],
        status=record["status"],
        code=record["code"],
        rule=record.get("rule", ""),
        seconds=record["seconds"],
        waited_s=record["waited"],
    )
