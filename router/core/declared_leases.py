"""What a peer has said that it has of what this worker owns: a `Declare`, and what came after it."""

from collections.abc import Iterable
from typing import NamedTuple

from router.core.slot_messages import Ask, Declare, Failed, Forget, Return
from serving.endpoint import VersionKey

LeaseUpdate = Ask | Forget | Return | Failed
"""What a borrower says to an owner after its Declare."""


class PeerAsk(NamedTuple):
    """A ticket of a peer."""

    since: float
    """Its arrival, on the clock of this worker."""
    retry: bool


def peer_ask(ask: Ask, now: float) -> PeerAsk:
    """What an ask that has just come means."""
    return PeerAsk(now - ask.age_s, ask.retry)


class DeclaredLeases:
    """The leases and asks of one peer. Kept up to date while the peer is in a view that this worker has not got yet."""

    __slots__ = ("asks", "epoch", "leases", "retired")

    def __init__(self, declare: Declare, now: float) -> None:
        self.epoch = declare.epoch
        self.leases: dict[VersionKey, dict[int, str]] = {}
        self.asks: dict[VersionKey, dict[int, PeerAsk]] = {}
        self.retired: dict[VersionKey, tuple[str, ...]] = {}
        for holding in declare.holdings:
            self.leases[holding.key] = dict(holding.leases)
            self.retired[holding.key] = holding.retired
            self.asks[holding.key] = {ask.ask: peer_ask(ask, now) for ask in holding.asks}

    def update(self, told: LeaseUpdate, now: float) -> None:
        """What the peer says next."""
        match told:
            case Ask():
                self.asks.setdefault(told.key, {})[told.ask] = peer_ask(told, now)
            case Forget():
                for asks in self.asks.values():
                    for ask in told.asks:
                        asks.pop(ask, None)
            case Return():
                for leases in self.leases.values():
                    for lease in told.leases:
                        leases.pop(lease, None)
            case Failed():
                pass  # a hold would be over, or nearly so

    def versions(self) -> Iterable[VersionKey]:
        """Versions of which the peer has something."""
        return dict.fromkeys((*self.leases, *self.asks))
