"""A small client of the Kubernetes API for the judging code: JSON in and out, and watches that survive an outage."""

import asyncio
import base64
import contextlib
import json
import os
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Object = dict[str, Any]

JSON, MERGE = "application/json", "application/merge-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
CALL_S = 10.0
SILENT_S = 330.0
"""A watch is asked to end after 300 s: one that is silent for longer is dead."""
AGAIN_S = 0.3
LINE_BYTES = 8 << 20
_CLEARINGS = 30
"""Of a long list: each may take longer than a call waits, and goes on meanwhile."""


class ApiFailure(Exception):
    """An answer that is no success; status 0: none came."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Change:
    """An object as it is now, or as it was last (`gone`); `at_s`: when this was received, monotonic seconds."""

    object: Object
    gone: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """The current context of a kubeconfig. `ca`: PEM text."""

    server: str
    ca: str
    namespace: str
    tls: ssl.SSLContext | bool
    token: str


def read(path: Path) -> Cluster:
    """The current context of a kubeconfig: client certificates and tokens. Raises OSError, KeyError."""
    told = yaml.safe_load(path.read_text())
    context = _named(told["contexts"], told["current-context"])["context"]
    cluster = _named(told["clusters"], context["cluster"])["cluster"]
    user = _named(told["users"], context["user"])["user"]
    ca = _text(cluster, "certificate-authority", path.parent)
    tls: ssl.SSLContext | bool = True
    if cluster["server"].startswith("https:"):
        tls = ssl.create_default_context(cadata=ca or None)
        with tempfile.TemporaryDirectory() as folder:  # the ssl module reads certificates from files only
            pair = [Path(folder, name) for name in ("crt", "key")]
            for file, field in zip(pair, ("client-certificate", "client-key"), strict=True):
                file.write_text(_text(user, field, path.parent))
            if pair[0].stat().st_size:
                tls.load_cert_chain(str(pair[0]), str(pair[1]))
    return Cluster(cluster["server"], ca, context.get("namespace", "default"), tls, user.get("token", ""))


def _named(entries: list[Object], name: str) -> Object:
    return next(entry for entry in entries if entry["name"] == name)


def _text(entry: Mapping[str, str], field: str, beside: Path) -> str:
    if data := entry.get(f"{field}-data"):
        return base64.b64decode(data).decode()
    return (beside / entry[field]).read_text() if entry.get(field) else ""


class Kube:
    """Calls with the rights of a kubeconfig; use as an async context."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        """`kubeconfig`: else that of the environment."""
        self.path = kubeconfig or Path(os.environ["KUBECONFIG"])
        self.cluster = read(self.path)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Kube":
        token = {"Authorization": f"Bearer {self.cluster.token}"} if self.cluster.token else {}
        connector = aiohttp.TCPConnector(ssl=self.cluster.tls, limit=100)
        self._session = aiohttp.ClientSession(headers=token, connector=connector, read_bufsize=LINE_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def get(self, path: str, **query: str) -> Object:
        """One object, or a list of them. Raises ApiFailure."""
        return await self.call("GET", path, query=query)

    async def items(self, path: str, **query: str) -> list[Object]:
        """The items of a list. Raises ApiFailure."""
        found: list[Object] = (await self.get(path, **query))["items"]
        return found

    async def create(self, path: str, body: Object) -> Object:
        """POST. Raises ApiFailure."""
        return await self.call("POST", path, body)

    async def patch(self, path: str, body: Object, kind: str = MERGE, **query: str) -> Object:
        """PATCH. Raises ApiFailure."""
        return await self.call("PATCH", path, body, kind, query)

    async def apply(self, path: str, body: Object, manager: str) -> Object:
        """Server-side apply, with force. Raises ApiFailure."""
        return await self.patch(path, body, APPLY, fieldManager=manager, force="true")

    async def delete(self, path: str, body: Object | None = None) -> None:
        """Delete an object; a missing one is no error. Raises ApiFailure."""
        try:
            await self.call("DELETE", path, body)
        except ApiFailure as failure:
            if failure.status != 404:
                raise

    async def clear(self, path: str, **query: str) -> None:
        """Delete all of a list, without grace. Raises ApiFailure."""
        for _ in range(_CLEARINGS):
            if not await self.items(path, **query, limit="1"):
                return
            try:
                await self.call(
                    "DELETE", path, {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}, query=query
                )
            except ApiFailure as failure:
                if failure.status:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        kind: str = JSON,
        query: Mapping[str, str] | None = None,
    ) -> Object:
        """The answer. Raises ApiFailure."""
        assert self._session is not None
        data = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(CALL_S),
                self._session.request(
                    method, self.cluster.server + path, data=data, params=query, headers={"Content-Type": kind}
                ) as response,
            ):
                text = await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise ApiFailure(0, repr(error)) from error
        if response.status >= 300:
            raise ApiFailure(response.status, _message(text))
        answer: Object = json.loads(text)
        return answer

    async def changes(self, path: str, **query: str) -> AsyncGenerator[Change, None]:
        """Every existing object, then all changes, without end: an outage is waited out and caught up with."""
        known: dict[str, Object] = {}
        while True:
            with contextlib.suppress(ApiFailure, aiohttp.ClientError, OSError, TimeoutError, ValueError):
                listed = await self.get(path, **query)
                for change in _difference(known, listed["items"], time.monotonic()):
                    yield change
                newest = listed["metadata"]["resourceVersion"]
                async for line in self._lines(path, {**query, "resourceVersion": newest}):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    each = event["object"]
                    gone = event["type"] == "DELETED"
                    known.pop(each["metadata"]["uid"], None)
                    if not gone:
                        known[each["metadata"]["uid"]] = each
                    yield Change(each, gone, time.monotonic())
            await asyncio.sleep(AGAIN_S)

    async def _lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_S, sock_read=SILENT_S)
        params = {**query, "watch": "true", "timeoutSeconds": "300"}
        async with self._session.get(self.cluster.server + path, params=params, timeout=timeout) as response:
            if response.status != 200:
                raise ApiFailure(response.status, _message(await response.text()))
            async for line in response.content:
                yield line


def _difference(known: dict[str, Object], listed: list[Object], now: float) -> list[Change]:
    """The changes between `known`, which is updated, and a new list."""
    fresh = {each["metadata"]["uid"]: each for each in listed}
    changes = [Change(each, True, now) for uid, each in known.items() if uid not in fresh]
    for uid, each in fresh.items():
        if uid not in known or version(known[uid]) != version(each):
            changes.append(Change(each, False, now))
    known.clear()
    known.update(fresh)
    return changes


def version(each: Object) -> str:
    """Of an object; for equality only."""
    text: str = each["metadata"]["resourceVersion"]
    return text


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:500]
