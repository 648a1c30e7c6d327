"""The ConfigMap with the membership of the routers, in a fake Kubernetes, with every version of it."""

import copy
from typing import Any

from cluster.kubernetes.client.api_errors import NotFound, WriteConflict
from cluster.kubernetes.client.paths import CONFIGMAPS, path
from router.membership.history import NAME, HistoryWrite
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object, Place


class RoutersObject:
    """`versions[-1]` is the newest version; None: deleted, or never created."""

    def __init__(self, kubernetes: FakeKubernetes | None = None) -> None:
        self.kubernetes = kubernetes or FakeKubernetes(controllers=False)
        self.kubernetes.on_version = self._note
        self.versions: list[Object | None] = [None]

    @property
    def newest(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.versions[-1])

    def put(self, draft: HistoryWrite) -> dict[str, Any] | None:
        """The version after a write; None: the write conflicts."""
        home = self.kubernetes.home
        try:
            if draft.fresh:
                return self.kubernetes.create_now(path(CONFIGMAPS, home), draft.body)
            return self.kubernetes.replace_now(path(CONFIGMAPS, home, NAME), draft.body)
        except (NotFound, WriteConflict):
            return None

    def delete(self) -> None:
        self.kubernetes.take_away(CONFIGMAPS, NAME)

    def put_back(self, number: int) -> None:
        """Restore the contents of an older version, like a backup."""
        version = self.versions[number]
        assert version is not None
        self.kubernetes.put(CONFIGMAPS, version)

    def _note(self, place: Place, found: Object | None) -> None:
        if place[2] == NAME:
            self.versions.append(copy.deepcopy(found))
