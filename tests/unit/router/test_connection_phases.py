"""Phases of a client connection: no step leads back to serving, and the end is final."""

import itertools

import pytest

from router.proxy.client_connection import NEXT, ConnectionPhase, PhaseStep

ORDER = list(ConnectionPhase)


@pytest.mark.parametrize(("phase", "step"), list(itertools.product(ConnectionPhase, PhaseStep)))
def test_no_step_leads_back_to_an_earlier_phase(phase: ConnectionPhase, step: PhaseStep) -> None:
    assert ORDER.index(NEXT[phase, step]) >= ORDER.index(phase)


@pytest.mark.parametrize("phase", ConnectionPhase)
def test_only_a_serving_connection_becomes_a_tunnel(phase: ConnectionPhase) -> None:
    becomes = NEXT[phase, PhaseStep.SWITCH]
    assert becomes is (ConnectionPhase.TUNNEL if phase is ConnectionPhase.SERVING else phase)


@pytest.mark.parametrize("phase", ConnectionPhase)
def test_a_connection_gets_further_time_for_unsent_bytes_once(phase: ConnectionPhase) -> None:
    assert NEXT[phase, PhaseStep.OVERDUE] is ConnectionPhase.FLUSHING
