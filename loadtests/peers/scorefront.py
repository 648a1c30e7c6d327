"""The product as a user starts it, with replicas that run already. Only its router gets the proxy core."""

import filecmp
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.crew import crew
from loadtests.installation import Installation, manifest
from loadtests.peers.rig import ROOT, Rig, Target
from scorefront import __version__
from scorefront.build_kind import build_kind
from serving.endpoint import VersionKey

KEY = VersionKey("bench", "blue")
"""Declared by `start`."""
SLOTS = 64
READY_S = 10.0
QUEUE_WAIT_MS = 60_000


def version() -> str:
    """Version of the product."""
    return f"scorefront {__version__}, {build_kind()}"


def compiled_tree() -> Path | None:
    """The copy of this checkout that `make compiled` has compiled; None without one of these very sources."""
    tree = ROOT / "build" / "compiled"
    if not list(tree.glob("*__mypyc.*.so")):
        return None
    sources = [str(path.relative_to(ROOT)) for path in (ROOT / "router").rglob("*.py")]
    _, differing, missing = filecmp.cmpfiles(ROOT, tree, [*sources, "setup.py"], shallow=False)
    return None if differing or missing else tree


def routed(name: str, upstreams: Sequence[int], slots: int = SLOTS, **fields: Any) -> dict[str, Any]:
    """A version with replicas on these ports."""
    replica = {"static": [f"127.0.0.1:{port}" for port in upstreams], **fields.pop("replica", {})}
    declared = {"name": name, "replica": replica, "maxConcurrentRequestsPerContainer": slots}
    return declared | {"maxQueueWaitMs": QUEUE_WAIT_MS} | fields


class Product:
    """One installation with these endpoints."""

    def __init__(
        self,
        rig: Rig,
        *documents: dict[str, Any],
        arguments: Sequence[str] = (),
        tls: bool = False,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        tree: Path = ROOT,
    ) -> None:
        """All `workers` are on the proxy's core. `tree`: of the sources, default this checkout."""
        directory = rig.directory / f"scorefront-{time.monotonic_ns()}"
        directory.mkdir()
        # PYTHONSAFEPATH: without it the current folder, not PYTHONPATH, would decide about the imported sources.
        path = os.pathsep.join([os.fspath(tree), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", **(environment or {})}
        chosen = Installation(directory, f"--workers={workers}", *arguments, environment=environment)
        self._installation = rig.stack.enter_context(chosen)
        rig.stack.callback(self._installation.stop)
        self._installation.start(*documents)
        self._tls = tls
        assert self._installation.process is not None
        self.workers = tuple(worker.pid for worker in crew(self._installation.process.pid))
        if len(self.workers) != workers:
            raise RuntimeError(f"scorefront up has {len(self.workers)} router workers, not {workers}")
        for pid in self.workers:
            rig.pin_to_proxy_core(pid)

    @property
    def control_url(self) -> str:
        """URL of the control port."""
        return self._installation.control

    def target(self, endpoint: str = "bench", name: str = "scorefront", token: bool = False) -> Target:
        """An endpoint's score path, with the credential that opens it."""
        scheme, _, port = self._installation.scoring.rpartition(":")
        assert scheme.startswith("https") is self._tls
        fields = (("Authorization", f"Bearer {self._credential(endpoint, token)}"),)
        return Target(name, int(port), f"/api/v1/service/{endpoint}/score", fields, self.workers, self._tls)

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


def start(rig: Rig, upstreams: Sequence[int], slots: int = SLOTS, workers: int = 1, idle_s: float = 0) -> Target:
    """scorefront with key auth in front of these ports; `idle_s`: idle timeout of connections, 0 = the default."""
    names = ("SCOREFRONT_IDLE_TIMEOUT_S", "SCOREFRONT_UNAUTHORIZED_IDLE_TIMEOUT_S")
    environment = dict.fromkeys(names, str(idle_s)) if idle_s else {}
    document = manifest(KEY.endpoint, [routed(KEY.version, upstreams, slots)])
    return Product(rig, document, workers=workers, environment=environment).target()
