"""Health probes: one HTTP GET each; and the check for clients that may explain silence."""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

import aiohttp

from cluster.local.socket_owner import CLOSE_WAIT, ESTABLISHED, TABLES, SocketRecord, read_table
from serving.authority import authority

HEADERS = {"User-Agent": "scorefront-probe", "Connection": "close", "Accept": "*/*"}


class ProbeSign(StrEnum):
    """Result of a probe."""

    WELL = "well"
    REFUSED = "refused"
    """Connection refused."""
    UNREADY = "unready"
    """An HTTP answer other than 2xx."""
    BAD = "bad"
    """A connection that was reset, or an answer that is not HTTP."""
    SILENT = "silent"
    """No answer in time."""


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """Result of a probe, with a text for people."""

    sign: ProbeSign
    text: str = ""


class Prober:
    """Sends probes. One session for all replicas, but one connection per probe, like a kubelet."""

    def __init__(self) -> None:
        # No limit on connections: long probes of busy replicas must not delay others.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session."""
        await self._session.close()

    async def get(self, host: str, port: int, path: str, timeout_s: float, named: str = "") -> ProbeOutcome:
        """GET `path` at `host`:`port`: WELL on any 2xx within `timeout_s` seconds.

        `named`: value of the Host field; default: `host` and `port`.
        """
        url = f"http://{authority(host, port)}{path}"
        headers = {"Host": named} if named else None
        untimed = aiohttp.ClientTimeout(None)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(url, headers=headers, allow_redirects=False, timeout=untimed) as response,
            ):
                if 200 <= response.status < 300:
                    return ProbeOutcome(ProbeSign.WELL)
                return ProbeOutcome(ProbeSign.UNREADY, f"GET {path} answered {response.status}")
        except TimeoutError:
            return ProbeOutcome(ProbeSign.SILENT, f"GET {path} got no answer within {timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return ProbeOutcome(
                ProbeSign.REFUSED, f"cannot connect to {host}:{port}: {error.os_error.strerror or error.os_error}"
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return ProbeOutcome(ProbeSign.BAD, f"GET {path} failed: {error or type(error).__name__}")


def has_clients(port: int, tables: Iterable[str] = TABLES) -> bool:
    """True if any process of this machine holds a connection to a server on `port`."""
    return any(one.remote[1] == port and one.state == ESTABLISHED for one in _sockets(tables))


def has_work(port: int, tables: Iterable[str] = TABLES) -> bool:
    """True if the server on `port` may be at work: it has clients, or holds a connection whose client has left."""
    left = any(one.local[1] == port and one.state == CLOSE_WAIT and one.inode for one in _sockets(tables))
    return left or has_clients(port, tables)


def _sockets(tables: Iterable[str]) -> Iterator[SocketRecord]:
    for path in tables:
        with contextlib.suppress(OSError):
            yield from read_table(path)
