"""A router worker on the test's own loop and a port the system chose, and the declared objects it is fed with."""

import asyncio
import hashlib
import itertools
import socket
from dataclasses import replace
from typing import Any

from cluster.link import RemoveReplica, ResetAll, SetKeys, ToWorker, UpsertEndpoint, UpsertReplica
from router.accesslog import AccessLogMode
from router.core.dispatcher import VersionQueue
from router.proxy.downstream import Downstream
from router.proxy.listeners import Listeners
from router.proxy.request_observer import ObserverFactory
from router.settings import RouterSettings
from router.supervisor.listening import listening_socket
from router.worker.router_worker import RouterWorker, WorkerOptions
from serving.credentials import KeyDigests, TokenTrust
from serving.endpoint import (
    Auth,
    AutoscalePolicy,
    Endpoint,
    ReplicaKind,
    ReplicaSource,
    Version,
    VersionKey,
    VersionType,
)
from serving.replica import Replica as DeclaredReplica
from serving.replica import ReplicaState
from tests.fakes.clock import eventually
from tests.integration.router.clients import Client
from tests.integration.router.replicas import Replica, Script, answers

SWEEP_S = 0.02


def version(name: str = "blue", share: float = 1.0, score_path: str = "/score", **changed: Any) -> Version:
    """A version; omitted timeouts are long enough for a busy machine."""
    source = ReplicaSource(ReplicaKind.STATIC, score_path=score_path, web_socket=bool(changed.pop("web_socket", False)))
    plain = Version(
        name,
        share,
        True,
        VersionType.TREATMENT,
        source,
        AutoscalePolicy(False, 1, 1),
        queue_wait_s=5.0,
        scoring_timeout_s=10.0,
    )
    return replace(plain, **changed)


def endpoint(*versions: Version, name: str = "iris", auth: Auth = Auth.NONE, **changed: Any) -> Endpoint:
    return replace(Endpoint(name, auth, versions or (version(),)), **changed)


def keys(*plain: str, endpoint: str = "iris") -> KeyDigests:
    return KeyDigests(endpoint, tuple(hashlib.sha256(key.encode()).digest() for key in plain))


def declared(
    replica_id: str,
    port: int,
    slots: int = 1,
    version: str = "blue",
    endpoint: str = "iris",
    state: ReplicaState = ReplicaState.READY,
    host: str = "127.0.0.1",
) -> DeclaredReplica:
    return DeclaredReplica(replica_id, endpoint, version, host, port, state, slots)


class Rig:
    """One worker without its process: no link, the rest is real. `draw` is the next random number of the traffic
    split.
    """

    def __init__(
        self,
        settings: RouterSettings | None = None,
        send_buffer: int | None = None,
        host: str = "127.0.0.1",
        observers: ObserverFactory | None = None,
    ) -> None:
        """`send_buffer`: bytes that the system may take in for a client that does not read. `host`: of the scoring
        port. `observers`: makes those of its versions.
        """
        self._listen = listening_socket(host, 0)
        if send_buffer is not None:
            self._listen.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        self.port: int = self._listen.getsockname()[1]
        self._link, self._control = socket.socketpair()
        options = WorkerOptions(
            *("", self._listen, self._link, settings or RouterSettings(), AccessLogMode.OFF, -1), observers=observers
        )
        self.worker = RouterWorker(options)
        self.gateway = self.worker.gateway
        self.gateway.effects.on_drained = lambda replica_id: self.drained.append(replica_id)
        self.gateway.effects.on_starved = lambda: self.starved.append(self.gateway.now())
        self.drained: list[str] = []
        self.starved: list[float] = []
        self.replicas: dict[str, Replica] = {}
        self._clients: list[Client] = []
        self._ids = itertools.count()
        self._server: asyncio.Server | Listeners | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._sweeps = 0

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Downstream(self.gateway), sock=self._listen)
        self._sweeper = loop.create_task(self._sweep(), name="sweep the rig")
        self.tell(ResetAll((endpoint(),), (), TokenTrust("https://issuer.test"), ()))

    async def stop(self) -> None:
        """Disconnect all clients; then no slot is leased, and none was ever leased twice."""
        assert self._server is not None and self._sweeper is not None
        for client in self._clients:
            client.leave()
        try:
            await eventually(self.is_at_rest)
            self.check()
        finally:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
            self._server.close()
            self.gateway.clients.abort()
            await self.gateway.close()
            for replica in self.replicas.values():
                await replica.stop()
            self._link.close()
            self._control.close()

    def is_at_rest(self) -> bool:
        queues = self.gateway.dispatcher.queues.values()
        return self.gateway.clients.empty.is_set() and not any(queue.ledger.busy or queue.waiting for queue in queues)

    def check(self) -> None:
        """The invariant: no slot was given twice, none given back twice."""
        for queue in self.gateway.dispatcher.queues.values():
            assert (queue.ledger.violations, queue.ledger.double_releases) == (0, 0), queue.key

    # ---- orders of control

    def tell(self, message: ToWorker) -> None:
        self.worker.apply(message)

    def declare(self, declared: Endpoint) -> None:
        self.tell(UpsertEndpoint(declared))

    def lock(self, *plain: str, endpoint: str = "iris") -> None:
        """These keys, and no other, open the endpoint."""
        self.tell(SetKeys(keys(*plain, endpoint=endpoint)))

    async def replica(self, script: Script | None = None, slots: int = 1, version: str = "blue", **how: Any) -> Replica:
        """Start a replica and tell the router that it is ready; `replica.id` is not needed but by `id_of`."""
        replica = Replica(script or answers(), **how)
        await replica.start()
        replica_id = f"r{next(self._ids)}"
        self.replicas[replica_id] = replica
        self.tell(UpsertReplica(declared(replica_id, replica.port, slots, version, host=replica.host)))
        return replica

    def id_of(self, replica: Replica) -> str:
        return next(replica_id for replica_id, known in self.replicas.items() if known is replica)

    def remove(self, replica: Replica) -> None:
        self.tell(RemoveReplica(self.id_of(replica)))

    # ---- actions of clients, and observations

    async def client(self, receive_buffer: int | None = None, host: str = "127.0.0.1") -> Client:
        client = await Client.connect(self.port, receive_buffer, host)
        self._clients.append(client)
        return client

    def queue(self, version: str = "blue") -> VersionQueue:
        return self.gateway.dispatcher.queue(VersionKey("iris", version))

    def busy(self, version: str = "blue") -> int:
        return self.queue(version).ledger.busy

    def waiting(self, version: str = "blue") -> int:
        return self.queue(version).waiting

    async def swept(self, times: int) -> None:
        """Wait for so many sweeps from now on."""
        enough = self._sweeps + times
        await eventually(lambda: self._sweeps >= enough)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self.gateway.sweep()
            self._sweeps += 1
