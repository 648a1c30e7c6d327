"""The ConfigMap in which routers agree on who takes part, as the API server keeps it: every version, in order."""

import copy
from typing import Any

from router.membership.router_membership import HistoryWrite


class RoutersObject:
    """`versions[-1]` is what there is; None where there is nothing."""

    def __init__(self) -> None:
        self.versions: list[dict[str, Any] | None] = [None]
        self._uids = 0

    @property
    def newest(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.versions[-1])

    def put(self, draft: HistoryWrite) -> dict[str, Any] | None:
        """The new version; None: a conflict, or there is nothing to be replaced."""
        before = self.versions[-1]
        if draft.fresh is not (before is None):
            return None
        body = copy.deepcopy(draft.body)
        metadata = body["metadata"]
        if before is not None:
            same = all(metadata.get(name) == before["metadata"][name] for name in ("resourceVersion", "uid"))
            if not same:
                return None
        else:
            self._uids += 1
            metadata["uid"] = f"object-{self._uids}"
        metadata["resourceVersion"] = str(len(self.versions))
        self.versions.append(body)
        return copy.deepcopy(body)

    def delete(self) -> None:
        self.versions.append(None)

    def put_back(self, number: int) -> None:
        """From a backup: the contents of an older version."""
        self.versions.append(copy.deepcopy(self.versions[number]))
