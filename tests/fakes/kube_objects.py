"""The Kubernetes API as objects in memory: what is read, written under a precondition, listed and watched."""

import asyncio
import copy
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from cluster.kubernetes.client import paths
from cluster.kubernetes.client.api_errors import ApiError, NotFound, WriteConflict
from cluster.kubernetes.client.paths import Resource, path
from tests.fakes.kubernetes import SHIPPED_SECRETS

Object = dict[str, Any]
PLURALS = frozenset(each.plural for each in vars(paths).values() if isinstance(each, paths.Resource))


class FakeApi:
    """Fits what is needed of `cluster.kubernetes.client.api.Api`."""

    def __init__(self, home: str = "home") -> None:
        self.home = home
        self.objects: dict[str, Object] = {}
        self.written: list[tuple[str, str, Object]] = []
        """(verb, path, body)."""
        self.failures: dict[str, ApiError] = {}
        """The end of a path -> what every request for it raises."""
        self._version = 0
        self._watches: dict[str, set[asyncio.Queue[tuple[str, Object]]]] = {}
        for name in SHIPPED_SECRETS:
            self.put(paths.SECRETS, name)

    # ---- what a test does

    def put(self, resource: Resource, name: str, sub: str = "", **body: Any) -> Object:
        """An object is there, new or changed."""
        metadata = {"name": name, "namespace": self.home, **body.pop("metadata", {})}
        found = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, **body}
        return self._keep(path(resource, self.home, name, sub), found)

    def remove(self, resource: Resource, name: str) -> None:
        """It is there no more."""
        where = path(resource, self.home, name)
        self._tell(where, "DELETED", self.objects.pop(where))

    def verbs(self, end: str) -> list[str]:
        """What was done to paths that end so."""
        return [verb for verb, where, _ in self.written if where.endswith(end)]

    # ---- Api

    async def get(self, where: str, query: Mapping[str, str] | None = None) -> Object:
        await asyncio.sleep(0)
        self._may_fail(where)
        if where in self.objects:
            return copy.deepcopy(self.objects[where])
        if where.rpartition("/")[2] in PLURALS:
            found = [each for key, each in self.objects.items() if key.rpartition("/")[0] == where]
            items = [each for each in copy.deepcopy(found) if fits(each, query or {})]
            return {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}
        raise NotFound(f"{where}: 404", 404, "NotFound")

    async def create(self, where: str, body: Object, query: Any = None, urgent: bool = False) -> Object:
        await asyncio.sleep(0)
        self._may_fail(where)
        self.written.append(("create", where, body))
        name = f"{where}/{body['metadata']['name']}"
        if name in self.objects:
            raise WriteConflict(f"{name}: 409", 409, "AlreadyExists")
        return self._keep(name, body)

    async def replace(self, where: str, body: Object, urgent: bool = False) -> Object:
        await asyncio.sleep(0)
        self._may_fail(where)
        self.written.append(("replace", where, body))
        kept = where.removesuffix("/resize")
        self._same_version(kept, body)
        return self._keep(kept, body)

    async def merge(self, where: str, body: Object) -> Object:
        await asyncio.sleep(0)
        self._may_fail(where)
        self.written.append(("merge", where, body))
        self._same_version(where, body)
        return self._keep(where, merged(self.objects[where], body))

    async def lines(self, where: str, query: Mapping[str, str], silent_s: float) -> AsyncGenerator[bytes, None]:
        self._may_fail(where)
        events: asyncio.Queue[tuple[str, Object]] = asyncio.Queue()
        self._watches.setdefault(where, set()).add(events)
        try:
            while True:
                kind, found = await events.get()
                if fits(found, query):
                    yield json.dumps({"type": kind, "object": found}).encode()
        finally:
            self._watches[where].discard(events)

    # ---- how

    def _may_fail(self, where: str) -> None:
        for end, error in self.failures.items():
            if where.endswith(end):
                raise error

    def _same_version(self, where: str, body: Object) -> None:
        if where not in self.objects:
            raise NotFound(f"{where}: 404", 404, "NotFound")
        asked = body["metadata"].get("resourceVersion")
        if asked is not None and asked != self.objects[where]["metadata"]["resourceVersion"]:
            raise WriteConflict(f"{where}: 409", 409, "Conflict")

    def _keep(self, where: str, found: Object) -> Object:
        self._version += 1
        kept = copy.deepcopy(found)
        kept["metadata"]["resourceVersion"] = str(self._version)
        kind = "MODIFIED" if where in self.objects else "ADDED"
        self.objects[where] = kept
        self._tell(where, kind, kept)
        return copy.deepcopy(kept)

    def _tell(self, where: str, kind: str, found: Object) -> None:
        for events in self._watches.get(where.rpartition("/")[0], ()):
            events.put_nowait((kind, copy.deepcopy(found)))


def fits(found: Object, query: Mapping[str, str]) -> bool:
    """By the selectors of a query."""
    named = query.get("fieldSelector", "").removeprefix("metadata.name=")
    metadata = found["metadata"]
    labels = {f"{name}={value}" for name, value in (metadata.get("labels") or {}).items()}
    known = {*labels, *(metadata.get("labels") or {})}  # `name` alone asks for any value
    wanted = {each for each in query.get("labelSelector", "").split(",") if each}
    return named in ("", metadata["name"]) and wanted <= known


def merged(found: Object, patch: Object) -> Object:
    """RFC 7396, for what is an object."""
    result = dict(found)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name) or {}, value) if isinstance(value, dict) else value
    return result
