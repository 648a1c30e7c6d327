"""The replicas of the tail: one request at a time, for exactly as long as was asked, and written down."""

import time

import pytest

from loadtests.openloop import Generator
from loadtests.peers import replicas
from loadtests.peers.rig import Rig, Target
from loadtests.tail import SETTLE_S, overlapping


def test_a_second_request_waits_its_turn_and_is_seen_to_have_overlapped() -> None:
    work_s = 0.05
    with Rig() as rig:
        ports, witness = replicas.start(rig, 2)
        target = Target("replica", ports[0])
        bodies = [target.post(replicas.body(index, work_s)) for index in range(3)]
        outcomes = Generator(target.port, bodies, [0.0, 0.01, 0.5]).run()
        time.sleep(SETTLE_S)
        first, second, third = replicas.read(witness)
    assert outcomes.failed == 0
    assert [job.index for job in (first, second, third)] == [0, 1, 2]
    assert first.came_s < second.came_s < first.ended_s == second.began_s
    assert third.came_s == third.began_s > second.ended_s
    assert overlapping([first, second, third]) == 1
    for job in (first, second, third):
        assert job.work_s == pytest.approx(work_s, abs=0.04) and job.work_s >= work_s
