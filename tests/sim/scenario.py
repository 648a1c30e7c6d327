"""Parameters of one run, drawn from its seed: workers, load, faults."""

from dataclasses import dataclass, fields, replace
from random import Random

CRASH, PAUSE, LEAVE, JOIN, FLAP = "crash", "pause", "leave", "join", "flap"
CUT, STALL, ONE_WAY, RESET = "cut", "stall", "one way", "reset"
RETIRE, RESIZE, VANISH, DOWN, HANG = "retire", "resize", "vanish", "down", "hang"
ROUTER_DEATH, API_AWAY = "router death", "api away"

FEW, MANY = (1, 2, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8), (12, 16, 24, 36)
"""Numbers of workers. Cost grows with the square, and most faults show among three."""

MOST_SLOTS = 4
"""Slots of a replica."""

LIFE_FAULTS = (CRASH, PAUSE, LEAVE, JOIN, FLAP)
LINK_FAULTS = (CUT, STALL, ONE_WAY, RESET)
REPLICA_FAULTS = (RETIRE, RESIZE, VANISH, DOWN, HANG)
ROUTER_FAULTS = (ROUTER_DEATH, API_AWAY)
"""Of runs with several routers."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Fixed parameters of a run. Times in seconds, shares in [0, 1]."""

    seed: int
    workers: int
    versions: int
    replicas: int
    """Replicas of each version."""
    slots: int
    """Most slots of a replica."""
    requests_per_s: float
    work_s: float
    """Mean duration of a request."""
    long_work: bool
    """If requests may outlast the quarantine, those of a dead worker may exceed the slots: a documented exception."""
    queue_wait_s: float
    scoring_timeout_s: float
    lease_s: float
    link_s: float
    """Longest message delay without faults."""
    feed_s: float
    """Longest delay of views and replica changes to a worker."""
    skew: str
    """Distribution of arrivals over workers: "even", "skewed" or "one"."""
    held_known: bool
    """True if the requests in flight of a dead worker are known."""
    loss: float
    duplication: float
    reordering: float
    encoded: bool
    """True to encode and decode every frame."""
    leaving_clients: float
    tunnels: float
    """Share of requests that become tunnels, without a scoring timeout."""
    faults: tuple[str, ...]
    """Kinds of faults; empty for a calm run."""
    fault_every_s: float
    busy_s: float
    """Duration of faults; requests arrive for a while after."""
    routers: int = 1
    """Routers, each with a part of the workers."""

    @property
    def settle_s(self) -> float:
        """Time from a disturbance until every promise holds again: reconnected, leases expired."""
        return self.lease_s * 1.5 + 4 * self.link_s + 2 * self.feed_s + 0.5

    @property
    def stuck_s(self) -> float:
        """Longest wait beside a free slot: ask, recall, return, grant, and a spare kept."""
        return 4 * self.link_s + 0.010 + 0.002

    @property
    def unfair_s(self) -> float:
        """Largest age difference for overtaking: an ask and a recall under way."""
        return 2 * self.link_s + 0.010 + 0.002

    def __str__(self) -> str:
        return " ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))


def draw(seed: int) -> Scenario:
    """Draw the scenario of a seed. A third of the runs is calm, with the tightest bounds."""
    random = Random(seed)
    workers = random.choice(FEW) if random.random() < 0.99 else random.choice(MANY)
    calm = random.random() < 0.3
    lossy = not calm and random.random() < 0.3
    link_s = random.choice((0.0002, 0.001, 0.005, 0.02))
    # Two ways take less than a sixteenth of a lease (`router.core.peer_liveness.SILENCES_PER_LEASE`); really, a
    # thousandth.
    lease_s = random.choice((0.3, 0.5, 1.0) if workers < 5 and link_s < 0.01 else (1.0,))
    replicas, slots = random.choice((1, 1, 2, 3, 4, 8)), random.choice((1, 1, 1, 2, 4))
    versions = random.choice((1, 1, 1, 2, 3)) if workers < 12 else 1
    requests_per_s = random.choice((30.0, 60.0, 120.0))
    load = random.choice((0.3, 0.7, 0.9, 1.0, 1.3, 2.0))  # arriving work per slot
    scoring_timeout_s = random.choice((0.4 * lease_s, 0.9 * lease_s))
    long_work = not calm and random.random() < 0.15
    kinds = [*LIFE_FAULTS, *LINK_FAULTS, *REPLICA_FAULTS]
    groups = (LIFE_FAULTS, LINK_FAULTS, REPLICA_FAULTS, tuple(random.sample(kinds, 3)), tuple(kinds))
    faults = () if calm else random.choice(groups)
    # A paused worker cannot end a tunnel of a lost owner: no tunnels with pauses.
    tunnels = 0.0 if PAUSE in faults else random.choice((0.0, 0.0, 0.02))
    scenario = Scenario(
        seed=seed,
        workers=workers,
        versions=versions,
        replicas=replicas,
        slots=slots,
        requests_per_s=requests_per_s,
        work_s=min(load * versions * replicas * (slots + 1) / 2 / requests_per_s, scoring_timeout_s * 0.4),
        long_work=long_work,
        queue_wait_s=random.choice((0.1, 0.5, 0.5, 2.0)),
        scoring_timeout_s=scoring_timeout_s * (4 if long_work else 1),
        lease_s=lease_s,
        link_s=link_s,
        feed_s=random.choice((0.001, 0.02, 0.2)),
        skew=random.choice(("even", "skewed", "one")),
        held_known=random.random() < 0.5,
        loss=random.choice((0.001, 0.01)) if lossy else 0.0,
        duplication=random.choice((0.0, 0.01)) if lossy else 0.0,
        reordering=random.choice((0.0, 0.01)) if lossy else 0.0,
        encoded=random.random() < 0.1,
        leaving_clients=random.choice((0.0, 0.0, 0.1)),
        tunnels=tunnels,
        faults=faults,
        fault_every_s=random.choice((0.03, 0.1, 0.3, 2.0) if workers < 12 else (0.1, 0.3)),
        busy_s=random.choice((1.0, 1.5, 3.0)) if workers < 12 else 1.0,
    )
    routers = random.choice((1, 2, 2, 3)) if workers > 1 else 1
    if routers == 1 or calm:
        return scenario
    return replace(scenario, routers=min(routers, workers), faults=(*faults, *ROUTER_FAULTS))
