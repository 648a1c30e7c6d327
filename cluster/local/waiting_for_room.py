"""The one replica of a version that waits for room on this machine: reported like a pending pod, without a process."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from cluster.local.local_replica import digest
from cluster.local.machine import LOOPBACK, LocalMachine
from serving.endpoint import Version, VersionKey
from serving.replica import Replica, ReplicaState

RETRY_S = 0.5
"""Interval of looking for room."""

logger = logging.getLogger(__name__)


class WaitingForRoom:
    """At most one waiting replica of a version, however many are wanted."""

    def __init__(
        self, machine: LocalMachine, key: VersionKey, new_id: Callable[[], str], retry: Callable[[], None]
    ) -> None:
        """No waiting replica.

        machine: has the feed of replicas.
        key: the version.
        new_id: makes an id.
        retry: called every `RETRY_S` while a replica waits.
        """
        self._machine = machine
        self._key = key
        self._new_id = new_id
        self._retry = retry
        self._id = ""
        self._timer: asyncio.TimerHandle | None = None

    def show(self, version: Version | None, template: tuple[Any, ...] | None, refusal: str) -> None:
        """Report that a replica waits, or none any more.

        version: None: not declared.
        template: of the waiting replica.
        refusal: the reason; "": none waits.
        """
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if version is None or template is None or not refusal:
            if self._id:
                self._machine.feed.remove(self._id)
                self._id = ""
            return
        if not self._id:
            self._id = self._new_id()
            logger.warning("%s: a replica waits: %s", self._key, refusal)
        self._machine.feed.upsert(
            Replica(
                id=self._id,
                endpoint=self._key.endpoint,
                version=self._key.version,
                host=LOOPBACK,
                port=0,
                state=ReplicaState.STARTING,
                slots=version.slots_per_replica,
                reason=refusal,
                template=digest(template),
                placed=False,
            )
        )
        self._timer = asyncio.get_running_loop().call_later(RETRY_S, self._retry)
