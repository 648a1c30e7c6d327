"""Mistakes, planted into the real core on purpose: the simulation must find each of them."""

from tests.sim.world import MakeDispatcher

BUGS: dict[str, MakeDispatcher] = {}
