"""Token issuer: creates, rotates and publishes the signing keys, and issues tokens."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

from controlplane.control_errors import StoreError
from controlplane.tokens import IssuedToken, Keyring, TokenAlgorithm, new_keyring, new_signing_key
from serving.clock import Clock
from serving.credentials import TokenTrust

CHECK_EVERY_S = 60.0

_log = logging.getLogger(__name__)


class TokenIssuer:
    """Issues tokens and rotates the signing keys; one per control plane."""

    def __init__(
        self,
        algorithm: TokenAlgorithm,
        write: Callable[[Keyring], Awaitable[None]],
        publish: Callable[[TokenTrust], None],
        clock: Clock,
        wall: Callable[[], float],
    ) -> None:
        """A token issuer; call `load` first.

        algorithm: of new signing keys.
        write: stores the keyring; raises StoreError.
        publish: sends the public keys to the routers.
        clock: event-loop clock.
        wall: wall clock in unix seconds.
        """
        self._algorithm = algorithm
        self._write = write
        self._publish = publish
        self._clock = clock
        self._wall = wall
        self._keyring: Keyring | None = None

    async def load(self, keyring: Keyring | None) -> None:
        """Use the stored keyring; None: create one. Raises StoreError."""
        if keyring is None:
            instance = uuid.uuid4().hex
            keyring = await asyncio.to_thread(new_keyring, instance, self._algorithm, self._wall())
            await self._write(keyring)
        self._keyring = keyring

    @property
    def keyring(self) -> Keyring:
        """The current signing keys."""
        if self._keyring is None:
            raise RuntimeError("the token issuer was not loaded")
        return self._keyring

    def issue(self, endpoint: str, incarnation: str) -> IssuedToken:
        """A token for one incarnation of one endpoint."""
        return self.keyring.issue(endpoint, incarnation, self._wall(), str(uuid.uuid4()))

    async def rotate(self) -> None:
        """Add a key if one is due and drop expired ones: store first, then memory and routers. Raises StoreError."""
        ring = self.keyring.without_expired(self._wall())
        if ring.rotation_due(self._wall(), self._algorithm):
            key = await asyncio.to_thread(new_signing_key, self._algorithm, self._wall())
            ring = ring.with_key(key, self._wall())
        if ring == self.keyring:
            return
        await self._write(ring)
        self._keyring = ring
        self._publish(ring.trust())

    async def run(self) -> None:
        """Rotate the keys when due, until cancelled."""
        while True:
            try:
                await self.rotate()
            except StoreError as error:
                _log.warning("token signing keys: rotation failed: %s", error)
            await self._clock.sleep(CHECK_EVERY_S)
