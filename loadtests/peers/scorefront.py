"""The product as a user starts it, with replicas that run already. Only its router gets the proxy core."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

from loadtests.installation import Installation, manifest
from loadtests.peers.rig import Rig, Target
from scorefront import __version__

SLOTS = 64
READY_S = 10.0
QUEUE_WAIT_MS = 60_000


def version() -> str:
    """Version of the product."""
    return f"scorefront {__version__}"


def routed(name: str, upstreams: Sequence[int], slots: int = SLOTS, **fields: Any) -> dict[str, Any]:
    """A version whose replicas listen on these ports."""
    replica = {"static": [f"127.0.0.1:{port}" for port in upstreams], **fields.pop("replica", {})}
    declared = {"name": name, "replica": replica, "maxConcurrentRequestsPerContainer": slots}
    return declared | {"maxQueueWaitMs": QUEUE_WAIT_MS} | fields


class Product:
    """One installation with these endpoints."""

    def __init__(self, rig: Rig, *documents: dict[str, Any], arguments: Sequence[str] = (), tls: bool = False) -> None:
        directory = rig.directory / f"scorefront-{time.monotonic_ns()}"
        directory.mkdir()
        self._installation = rig.stack.enter_context(Installation(directory, *arguments))
        rig.stack.callback(self._installation.stop)
        self._installation.start(*documents)
        self._tls = tls
        self.worker = self._router_worker()
        rig.pin_to_proxy_core(self.worker)

    def target(self, endpoint: str = "bench", name: str = "scorefront", token: bool = False) -> Target:
        """An endpoint's score path, with the credential that opens it."""
        scheme, _, port = self._installation.scoring.rpartition(":")
        assert scheme.startswith("https") is self._tls
        fields = (("Authorization", f"Bearer {self._credential(endpoint, token)}"),)
        return Target(name, int(port), f"/api/v1/service/{endpoint}/score", fields, (self.worker,), self._tls)

    def _router_worker(self) -> int:
        for process in self._installation.descendants():
            if "router-worker" in process.cmdline():
                return int(process.pid)
        raise RuntimeError("scorefront up has no router worker")

    def _credential(self, endpoint: str, token: bool) -> str:
        """The primary key or a token; an endpoint that asks for neither is sent a word that nobody looks at."""
        url = f"{self._installation.control}/api/v1/endpoints/{endpoint}/{'token' if token else 'keys'}"
        request = urllib.request.Request(url, method="POST" if token else "GET")
        try:
            with urllib.request.urlopen(request, timeout=READY_S) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError:
            return "x" * 43
        return str(said["accessToken" if token else "primaryKey"])


def start(rig: Rig, upstreams: Sequence[int], slots: int = SLOTS) -> Target:
    """scorefront with defaults and key auth in front of these ports."""
    return Product(rig, manifest("bench", [routed("blue", upstreams, slots)])).target()
