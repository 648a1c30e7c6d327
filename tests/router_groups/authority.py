"""One history of views for all groups, over a Unix socket beyond the cut networks: the role of the API server."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from router.core.view import Departed, Member, View
from router.membership.agreement import MembershipPart, merged_view
from tests.router_groups.words import Count, Here, HowMany, Say, SetView, from_group, line

LIMIT_BYTES = 1 << 20
ANSWER_S = 2.0

Rewrite = Callable[[str, str, Member], Member]
"""(reporting group, receiving group, member) -> reported address: another one, as a rule."""


def as_it_is(of: str, told: str, member: Member) -> Member:
    """Nothing stands between the groups."""
    return member


class History:
    """The parts of all groups, and the views for each of them. Pure."""

    def __init__(self, rewrite: Rewrite = as_it_is) -> None:
        self._rewrite = rewrite
        self._parts: dict[str, MembershipPart] = {}
        self._buried: tuple[Departed, ...] = ()
        self.epoch = 0

    def announce(self, group: str, part: MembershipPart) -> None:
        """A group's part, in place of the one before."""
        self._parts[group] = part
        self.epoch += 1

    def bury(self, group: str) -> None:
        """A group has ended with all of its workers; their requests in flight are unknown."""
        part = self._parts.pop(group, MembershipPart())
        lost = tuple(Departed(member.name, None) for member in part.members)
        self._buried = (*self._buried, *part.departed, *lost)
        self.epoch += 1

    def view(self, told: str) -> View:
        """As this group sees it."""
        parts = [
            replace(
                part,
                members=tuple(
                    member if group == told else self._rewrite(group, told, member) for member in part.members
                ),
            )
            for group, part in sorted(self._parts.items())
        ]
        return merged_view(self.epoch, (*parts, MembershipPart((), self._buried)))

    @property
    def members(self) -> Mapping[str, tuple[Member, ...]]:
        """By group."""
        return {group: part.members for group, part in self._parts.items()}


@dataclass(slots=True, eq=False)
class _Group:
    writer: asyncio.StreamWriter
    counts: asyncio.Queue[Count] = field(default_factory=asyncio.Queue)


class Authority:
    """Groups connect to its socket; from `start` to `close`."""

    def __init__(self, path: Path, rewrite: Rewrite = as_it_is) -> None:
        self.path = path
        self.history = History(rewrite)
        self._groups: dict[str, _Group] = {}

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LIMIT_BYTES)

    async def close(self) -> None:
        """Close all connections."""
        self._server.close()
        for group in self._groups.values():
            group.writer.close()
        await asyncio.sleep(0)

    def bury(self, group: str) -> None:
        """Requires that every process of the group has ended."""
        self.history.bury(group)
        self._groups.pop(group, None)
        self._tell()

    async def count(self, group: str) -> Count:
        """Sum over its workers. Raises TimeoutError, KeyError."""
        asked = self._groups[group]
        asked.writer.write(line(HowMany()))
        async with asyncio.timeout(ANSWER_S):
            return await asked.counts.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = ""
        with contextlib.suppress(ConnectionError):  # it was killed
            while text := await reader.readline():
                match from_group(text):
                    case Here(name):
                        self._groups[name] = _Group(writer)
                    case Say(part):
                        self.history.announce(name, part)
                        self._tell()
                    case Count() as count:
                        self._groups[name].counts.put_nowait(count)
        writer.close()

    def _tell(self) -> None:
        for name, group in self._groups.items():
            if not group.writer.is_closing():
                group.writer.write(line(SetView(self.history.view(name))))
