"""Is a replica well? One HTTP GET, and what a silence may be excused by."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

import aiohttp

HEADERS = {"User-Agent": "scorefront-probe", "Connection": "close", "Accept": "*/*"}
ESTABLISHED = "01"


class Sign(StrEnum):
    """What a probe met."""

    WELL = "well"
    REFUSED = "refused"
    """Nobody listens."""
    BAD = "bad"
    """An answer, but not the right one."""
    SILENT = "silent"
    """No answer in time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a probe met, and how to say so."""

    sign: Sign
    text: str = ""


class Prober:
    """Sends probes. One session for all replicas, but a connection for each probe, as a kubelet would."""

    def __init__(self) -> None:
        # No limit on connections: patient probes of busy replicas must not keep others waiting.
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
        """Let the session go."""
        await self._session.close()

    async def get(self, host: str, port: int, path: str, timeout_s: float, named: str = "") -> Outcome:
        """GET `path` at `host`:`port`: WELL on any 2xx within `timeout_s` seconds.

        `named`: the host that is asked for, where `host` is one of its addresses.
        """
        url = f"http://{_written(host, port)}{path}"
        headers = {"Host": _written(named, port)} if named and named != host else None
        untimed = aiohttp.ClientTimeout(None)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(url, headers=headers, allow_redirects=False, timeout=untimed) as response,
            ):
                if 200 <= response.status < 300:
                    return Outcome(Sign.WELL)
                return Outcome(Sign.BAD, f"GET {path} answered {response.status}")
        except TimeoutError:
            return Outcome(Sign.SILENT, f"GET {path} got no answer within {timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return Outcome(
                Sign.REFUSED, f"cannot connect to {host}:{port}: {error.os_error.strerror or error.os_error}"
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(Sign.BAD, f"GET {path} failed: {error or type(error).__name__}")


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def has_clients(port: int, tables: tuple[str, ...] = ("/proc/net/tcp", "/proc/net/tcp6")) -> bool:
    """Does any process of this machine hold a connection to a server on `port`?"""
    return any(port in _remote_ports(table) for table in tables)


def _remote_ports(path: str) -> set[int]:
    """Remote ports of the established connections listed in a table of proc_net_tcp(5)."""
    try:
        with open(path) as table:
            rows = [line.split(maxsplit=4)[2:4] for line in list(table)[1:]]
    except OSError:
        return set()
    return {int(remote.rpartition(":")[2], 16) for remote, state in rows if state == ESTABLISHED}
