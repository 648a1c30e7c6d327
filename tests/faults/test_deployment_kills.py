"""A deployment survives SIGKILL of its installation; for many kills: `python -m tests.faults.deployment_kills`."""

from pathlib import Path

import pytest

from tests.faults.deployment_kills.rounds import Round, run
from workspace.deployments.records import OperationStep

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize(
    "one",
    [
        Round("create", OperationStep.SNAPSHOT, 0.005),
        Round("replace", OperationStep.READY, 0.1),
        Round("create-broken", OperationStep.START, 0.0),
    ],
    ids=str,
)
def test_a_killed_deployment_ends_after_the_next_start_and_leaves_nothing_half_made(one: Round, tmp_path: Path) -> None:
    assert run(one, tmp_path / "state") == []
