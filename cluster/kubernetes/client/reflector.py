"""List and watch of one collection: its changes in order, without loss or repetition.

Rules: list in pages, then watch from the list's version, with bookmarks; a silent watch is dead; after an expired
version (410, as status or as event) list again and report the difference; delays between retries grow, with jitter, and
are never shorter than the server asks for; a watch that ends at once is a failure.
"""

import contextlib
import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from cluster.kubernetes.client import api_errors as errors
from cluster.kubernetes.client.backoff import Backoff, BackoffSettings
from cluster.kubernetes.client.cache import (
    Change,
    Key,
    Object,
    ObjectCache,
    ObjectGone,
    ObjectPut,
    ObjectsListed,
    key_of,
)
from serving.clock import Clock

__all__ = [
    "Change",
    "ObjectGone",
    "ObjectPut",
    "ObjectsListed",
    "Reflector",
    "ReflectorSettings",
    "without_managed_fields",
]

UNANSWERED_STATUSES = frozenset({0, 401, 408, 429})
"""Failures that do not invalidate the version to watch from."""

SERVER_ERRORS_BEFORE_LIST = 3
SILENCES_BEFORE_LIST = 2
"""After so many 5xx or silent watches in a row the version is discarded: a server restored from a backup answers 504
or nothing to a watch from a version it does not have yet.
"""

_log = logging.getLogger("scorefront.kubernetes")


@dataclass(frozen=True, slots=True)
class ReflectorSettings:
    """The defaults are those of client-go and kopf."""

    page_objects: int = 500
    watch_least_s: float = 240.0
    watch_most_s: float = 480.0
    """The server is asked to end each watch after a time between these, so that watchers spread over servers."""
    silent_s: float = 70.0
    """Bookmarks come about once a minute; a watch without data for this long is dead."""
    sudden_s: float = 1.0
    """A watch that ends well, but earlier than this, is a failure: else an empty answer would become a hot loop."""
    backoff: BackoffSettings = field(default_factory=BackoffSettings)
    """After answers that are no good."""
    away: BackoffSettings = field(default_factory=lambda: BackoffSettings(last_s=5.0))
    """Without a response: a retry costs the server nothing, and its return should be noticed within seconds."""


class Reading(Protocol):
    """The part of `cluster.kubernetes.client.api.Api` in use."""

    async def get(self, path: str, query: Mapping[str, str]) -> Object:
        """One page. Raises ApiError."""

    def lines(self, path: str, query: Mapping[str, str], silent_s: float) -> AsyncGenerator[bytes, None]:
        """The lines of a watch. Raises ApiError."""


def without_managed_fields(found: Object) -> Object:
    """Removes the longest part of an object's metadata, which is never used."""
    found["metadata"].pop("managedFields", None)
    return found


class Reflector:
    """Follows one collection. One consumer; everything is for the event loop's own thread."""

    def __init__(
        self,
        api: Reading,
        path: str,
        clock: Clock,
        u: Callable[[], float],
        label_selector: str = "",
        field_selector: str = "",
        keep: Callable[[Object], Object | None] = without_managed_fields,
        settings: ReflectorSettings | None = None,
    ) -> None:
        """`api`, `path`: the collection. `u` is uniform on [0, 1). `label_selector`, `field_selector`: restrict it,
        default all.
        `keep` may change the object it gets; it returns the object to cache, None for none.
        """
        self._api = api
        self._path = path
        self._clock = clock
        self._u = u
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        self._query = {name: value for name, value in selectors.items() if value}
        self._settings = settings or ReflectorSettings()
        self._cache = ObjectCache(self._kept)
        self._keep = keep
        self._version = ""  # the version to watch from; opaque; "": list first
        self._heard_at = -math.inf
        self._backoff = Backoff(self._settings.backoff)
        self._away = Backoff(self._settings.away)
        self._silences = 0
        self.synced = False
        """True once the first list is complete."""
        self.last_error = ""
        """The reason for the current failure; "" while the watch works."""
        self.is_refused = False
        """True if the API server refuses the list or watch."""

    @property
    def objects(self) -> Mapping[Key, Object]:
        """All that is known, by (namespace, name), as `keep` left it."""
        return self._cache.objects

    def age_s(self, now: float) -> float:
        """Seconds since the last data from the API server; infinite before the first. Up to a minute without
        changes.
        """
        return now - self._heard_at

    async def changes(self) -> AsyncIterator[Change]:
        """First an ObjectsListed, then every change, for ever. Raises nothing but CancelledError."""
        while True:
            began = self._clock.now()
            try:
                if not self._version:
                    for change in await self._list():
                        yield change
                    began = self._clock.now()
                async with contextlib.aclosing(self._watch()) as changes:
                    async for change in changes:
                        yield change
                lasted_s = self._clock.now() - began
                if lasted_s >= self._settings.sudden_s:
                    self._lasted(lasted_s)
                    continue
                raise errors.ApiError(f"GET {self._path}: the watch ended as soon as it began", reason="Sudden")
            except errors.ApiError as exc:
                error = exc
            except Exception as exc:  # the watch survives every failure
                _log.exception("watch of %s: failed", self._path)
                error = errors.Garbled(f"GET {self._path}: {exc!r}")
            self._lasted(self._clock.now() - began)
            await self._clock.sleep(self._failed(error))

    def _kept(self, found: Object) -> Object | None:
        try:
            return self._keep(found)
        except Exception:  # one malformed object must not hide the others
            _log.exception("watch of %s: object %s ignored", self._path, key_of(found))
            return None

    def _lasted(self, seconds: float) -> None:
        self._backoff.lasted(seconds)
        self._away.lasted(seconds)

    def _failed(self, error: errors.ApiError) -> float:
        """Record a failure and decide between watching and listing; returns the seconds to wait."""
        no_answer = isinstance(error, errors.ApiUnreachable) and not isinstance(error, errors.Garbled)
        self._silences += no_answer and error.reason == "Timeout"
        if self._silences >= SILENCES_BEFORE_LIST or not stays(error, self._backoff.failures):
            self._version, self._silences = "", 0
        self._tell(error)
        if no_answer:
            return self._away.failed(self._u())
        self._away.failures = 0
        return self._backoff.failed(self._u(), error.retry_after_s)

    def _tell(self, error: errors.ApiError) -> None:
        if error.message != self.last_error:
            _log.warning("%s%s", error.message, "" if self._version else "; listing again")
        self.last_error = error.message
        self.is_refused = isinstance(error, errors.RequestRefused)

    def _heard(self) -> None:
        self._heard_at = self._clock.now()
        self._silences = 0
        self.last_error, self.is_refused = "", False

    # ---- listing

    async def _list(self) -> list[Change]:
        version, found = await self._whole_list()
        changes: list[Change] = [*self._cache.listed(found)]
        if not self.synced:
            changes = [ObjectsListed(tuple(self._cache.objects.values()))]
        self._version, self.synced = version, True
        return changes

    async def _whole_list(self) -> tuple[str, list[Object]]:
        try:
            return await self._pages(self._settings.page_objects)
        except errors.ResourceExpired:  # the list grew too old between two pages
            return await self._pages(0)

    async def _pages(self, limit: int) -> tuple[str, list[Object]]:
        """The version of the first page, and all objects. `limit` 0: in one page."""
        query = {**self._query, **({"limit": str(limit)} if limit else {})}
        version, found = "", []
        while True:
            page = await self._api.get(self._path, query)
            try:
                version = version or page["metadata"]["resourceVersion"]
                found += [whole(item, page) for item in page.get("items") or ()]
                more = page["metadata"].get("continue")
            except (KeyError, TypeError, AttributeError) as exc:
                raise errors.Garbled(f"GET {self._path}: the answer is not a list", reason="NotAList") from exc
            self._heard()
            if not more:
                return version, found
            query["continue"] = more

    # ---- watching

    async def _watch(self) -> AsyncGenerator[Change, None]:
        chosen = self._settings
        timeout_s = chosen.watch_least_s + self._u() * (chosen.watch_most_s - chosen.watch_least_s)
        query = {
            **self._query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(int(timeout_s)),
        }
        async with contextlib.aclosing(self._api.lines(self._path, query, chosen.silent_s)) as lines:
            async for line in lines:
                for change in self._event(line):
                    yield change

    def _event(self, line: bytes) -> Iterator[Change]:
        """The changes by one event. Raises ApiError for an ERROR event and for a malformed one."""
        try:
            event = msgspec.json.decode(line)
            kind, found = event["type"], event["object"]
            if kind == "ERROR":
                raise errors.error_of(int(found.get("code", 500)), "Error", found, "", None, f"watch of {self._path}")
            version = found["metadata"]["resourceVersion"]
            if kind in ("ADDED", "MODIFIED"):
                yield from self._cache.put(found)
            elif kind == "DELETED":
                yield from self._cache.gone(found)
            elif kind != "BOOKMARK":
                raise ValueError(f"unknown type {kind!r}")
        except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError) as exc:
            raise errors.Garbled(f"watch of {self._path}: not an event: {line[:80]!r}", reason="NotAnEvent") from exc
        self._version = version
        self._heard()


def whole(item: Object, page: Object) -> Object:
    """An item of a list, completed with the `kind` and `apiVersion` that the list carries for built-in kinds.

    Raises KeyError, TypeError or AttributeError for a malformed object.
    """
    if not (key_of(item)[1] and item["metadata"]["resourceVersion"]):
        raise KeyError("an object without a name or a version")
    if "kind" not in item:
        item["apiVersion"], item["kind"] = page.get("apiVersion", ""), str(page.get("kind", "")).removesuffix("List")
    return item


def stays(error: errors.ApiError, failures_before: int) -> bool:
    """True if the watch may resume from its version after this error and so many failures in a row before it."""
    if isinstance(error, errors.Garbled):
        return False  # the same event would come again
    if error.status >= 500:
        return failures_before + 1 < SERVER_ERRORS_BEFORE_LIST
    return error.status in UNANSWERED_STATUSES
