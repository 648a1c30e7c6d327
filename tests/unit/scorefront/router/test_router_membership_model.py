"""Several routers, one object, lost races, lost answers, late reads, dead pods, an API server that is away.

In any order, no view leaves out a living member, and in the end all see the same.
"""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from router.core.view import Departed, Member, View
from router.membership.agreement import MembershipPart
from router.membership.history import decoded
from router.membership.router_membership import RouterMembership
from tests.fakes.routers_object import RoutersObject

LEASE_S = 2.0
PODS = ("a", "b", "c")


@dataclass
class Process:
    """One start of a router in a pod."""

    pod: str
    uid: str
    decisions: RouterMembership
    members: list[str] = field(default_factory=list)
    departed: list[Departed] = field(default_factory=list)
    at: int = 0
    """The version it has read."""
    views: list[View] = field(default_factory=list)
    alone_since: int | None = None
    """The version that was the newest when it began to go on alone."""

    def announce(self) -> None:
        self.decisions.announce(
            MembershipPart(tuple(Member(name, f"{name}:1") for name in self.members), tuple(self.departed))
        )


class World:
    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.now = 0.0
        self.store = RoutersObject()
        self.uids = {pod: f"{pod}-0" for pod in PODS}
        self.running: dict[str, Process] = {}
        self.kept: dict[str, tuple[str, int, dict[str, Any]]] = {}
        """Pod -> its uid, and the note of its last process as sole member, with the version's number."""
        self.serial = 0
        self.went_alone = 0

    # ---- events

    def step(self) -> None:
        self.now += self.draw.choice((0.0, 0.01, 0.5, 3.0))
        pod = self.draw.choice(PODS)
        process = self.running.get(pod)
        if process is None:
            self.start(pod)
            return
        steps = (self.change, self.change, self.write, self.write, self.write, self.lose_answer, self.read, self.read)
        self.draw.choice((*steps, self.look_after, self.look_after, self.cut_off, self.crash, self.lose_pod))(process)

    def start(self, pod: str) -> None:
        self.serial += 1
        decisions = RouterMembership(pod, self.uids[pod], f"group-{self.serial}", "home", LEASE_S)
        process = self.running[pod] = Process(pod, self.uids[pod], decisions)
        uid, at, kept = self.kept.get(pod, ("", 0, {}))
        if uid == process.uid and self.draw.random() < 0.5:
            process.at = at
            decisions.read(kept, self.now)  # the API server is away
        else:
            self.read(process)

    def change(self, process: Process) -> None:
        self.serial += 1
        if process.members and self.draw.random() < 0.4:
            name = process.members.pop(self.draw.randrange(len(process.members)))
            process.departed.append(Departed(name, {}))
        else:
            process.members.append(f"w{self.serial}")
        process.announce()
        self.show(process)

    def write(self, process: Process, answered: bool = True) -> None:
        draft = process.decisions.draft(self.now)
        if draft is None:
            return
        self.note(process)
        before = self.store.newest
        taken = self.store.put(draft)
        if taken is not None:
            self.check_step(before, taken)
        if not answered:
            return
        if taken is None:
            self.read(process, newest=True)
        else:
            process.decisions.read(taken, self.now)
            process.at = len(self.store.versions) - 1
            self.show(process)

    def lose_answer(self, process: Process) -> None:
        self.write(process, answered=False)

    def read(self, process: Process, newest: bool = False) -> None:
        last = len(self.store.versions) - 1
        process.at = last if newest else self.draw.randint(process.at, last)
        process.decisions.read(self.store.versions[process.at], self.now)
        self.show(process)

    def look_after(self, process: Process) -> None:
        for suspect in process.decisions.suspects():
            if self.uids[suspect.pod] != suspect.uid:
                process.decisions.gone(suspect)

    def cut_off(self, process: Process) -> None:
        process.decisions.continue_alone()
        self.show(process)

    def crash(self, process: Process) -> None:
        """The container; its pod stays."""
        del self.running[process.pod]

    def lose_pod(self, process: Process) -> None:
        del self.running[process.pod]
        self.serial += 1
        self.uids[process.pod] = f"{process.pod}-{self.serial}"

    # ---- invariants

    def alive(self) -> set[str]:
        return {name for process in self.running.values() for name in process.members}

    def check_step(self, before: dict[str, object] | None, after: dict[str, object]) -> None:
        """A member missing from the new version has ended, and is listed as departed if another router has removed
        it.
        """
        old = decoded(before) if before is not None else None
        new = decoded(after)
        assert old is None or new.epoch > old.epoch
        if old is None:
            return
        missing = old.workers() - new.workers()
        assert not missing & self.alive(), "a living worker was left out"
        told = {each.name for each in new.departed}
        told |= {each.name for record in new.records.values() for each in record.part.departed}
        assert missing <= told, "nobody is told of the dead"

    def note(self, process: Process) -> None:
        """As the shell does: before anything is sent, and before a view is shown."""
        known = process.decisions.known()
        if known is not None and process.decisions.is_alone():
            self.kept[process.pod] = process.uid, process.at, known
        elif process.decisions.history is not None:
            self.kept.pop(process.pod, None)

    def show(self, process: Process) -> None:
        self.note(process)
        view = process.decisions.view(self.now)
        assert not process.decisions.expelled
        if view is None or view.epoch <= (process.views[-1].epoch if process.views else 0):
            return
        own = set(process.members)
        assert process.alone_since is None or own <= set(view.names()), "it gave up what it has"
        # A view of one that goes on alone may have the number of one that others see: they never meet.
        chain = {(each.epoch, each.workers()) for each in map(decoded, filter(None, self.store.versions))}
        if (view.epoch, frozenset(view.names())) in chain:
            process.alone_since = None
        else:
            if process.alone_since is None:
                process.alone_since = process.at
                self.went_alone += 1
                last = self.store.versions[process.at]
                assert last is not None
                assert decoded(last).records.keys() == {process.pod}, "others have slots"
            self.check_alone(process)
        process.views.append(view)

    def check_alone(self, process: Process) -> None:
        """For all later observations of others: they wait for a worker of this pod that will not answer them."""
        assert process.alone_since is not None
        for version in self.store.versions[process.alone_since :]:
            assert version is not None
            record = decoded(version).records[process.pod]
            assert record.uid == process.uid
            assert record.part.members

    def settle(self) -> View:
        """The API server is there, every router reads and writes, nothing else happens."""
        for _ in range(12):
            self.now += LEASE_S
            for pod in PODS:
                process = self.running.get(pod)
                if process is None:
                    continue
                self.look_after(process)
                self.read(process, newest=True)
                self.write(process)
        for process in self.running.values():
            self.read(process, newest=True)
        views = [process.decisions.view(self.now) or View(0, ()) for process in self.running.values()]
        assert len({(view.epoch, view.members) for view in views}) == 1
        return views[0]


@pytest.mark.parametrize("block", range(10))
def test_under_any_events_no_living_member_is_left_out_and_all_agree_in_the_end(block: int) -> None:
    went_alone = 0
    for seed in range(block * 40, block * 40 + 40):
        world = World(seed)
        for _ in range(80):
            world.step()
        for pod in PODS:
            if pod not in world.running:
                world.start(pod)
            if not world.running[pod].members:
                world.change(world.running[pod])
        view = world.settle()
        assert set(view.names()) == world.alive(), f"seed {seed}"
        buried = decoded(world.store.newest or {}).departed
        assert buried == (), f"seed {seed}: the object grows"
        went_alone += world.went_alone
    assert went_alone, "what is rare must happen"
