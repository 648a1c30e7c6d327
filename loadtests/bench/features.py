"""The cost of each feature: the router's CPU per request with it, less the CPU without it, in the same rounds.

Everything goes through whole products under wrk's load, so kernel and event loop are in the figures. Where a feature
works once per head and is remembered, it is measured on heads that never repeat as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtests.bench import wrk
from loadtests.bench.certificate import write_certificate
from loadtests.bench.figures import Table, median_difference, middle, rotated
from loadtests.bench.throughput import UNIQUE_FIELD
from loadtests.bench.traffic import BODY
from loadtests.installation import manifest
from loadtests.peers import nginx
from loadtests.peers.rig import Rig, Target
from loadtests.peers.scorefront import Product, routed

LENGTH = ("Content-Length", str(len(BODY)))
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
FEW_SLOTS = 16


@dataclass(slots=True)
class Variant:
    """A way to send requests, or a way to be configured."""

    target: Target
    fields: tuple[tuple[str, str], ...] = (LENGTH,)
    body: bytes = BODY
    runs: list[wrk.Run] = field(default_factory=list)

    @property
    def script(self) -> str:
        """The script for wrk."""
        return wrk.script(self.target.head("POST", *self.fields), self.body)

    @property
    def costs_ns(self) -> list[float]:
        """CPU per request, a value for each round."""
        return [run.cpu_ns for run in self.runs]


@dataclass(frozen=True, slots=True)
class Feature:
    """A row: `variant` less `without` is its cost."""

    name: str
    variant: str
    without: str
    how: str


FEATURES = (
    Feature("key auth, head repeats", "base", "open", "keyed endpoint less open endpoint"),
    Feature("key auth, head never repeats", "unique", "unique open", "the same, a field with a number in each head"),
    Feature(
        "token auth, head never repeats", "unique token", "unique open", "one EdDSA token, checked once, looked up"
    ),
    Feature("a head that is not like the one before", "unique", "base", "a field with a number in each head"),
    Feature("an answer head that is not like the one before", "answers", "base", "the backend adds a random field"),
    Feature("traffic split over two versions", "split", "base", "50 : 50 less one version"),
    Feature("waiting for a slot", "queued", "base", f"{FEW_SLOTS} slots for {wrk.CONNECTIONS} clients less 64 slots"),
    Feature("chunked request body", "chunked body", "base", "one chunk less a body with its length"),
    Feature("chunked answer", "chunked answer", "base", "the backend sends one chunk"),
    Feature("a replica that closes after each answer", "closing", "base", "a connection to it for each request"),
    Feature("a client that closes after each answer", "reconnecting", "base", "`Connection: close` in the request"),
    Feature("access log of every request", "log all", "base", "--access-log all less errors; as many as it writes"),
    Feature("access log of one request in 100", "log sampled", "base", "--access-log sampled less errors"),
    Feature("TLS 1.3", "tls", "base", "--tls-cert, connections kept"),
)


def variants(rig: Rig) -> dict[str, Variant]:
    """Four installations, one after the other in use, and every way to call them."""
    port = nginx.start_backend(rig).port
    product = Product(rig, *_documents(port))
    base, open_, token = (product.target(name, token=name == "token") for name in ("bench", "open", "token"))
    logged = {mode: _logging(rig, port, mode) for mode in ("all", "sampled")}
    return {
        "base": Variant(base),
        "open": Variant(open_),
        "unique": Variant(base, (LENGTH, UNIQUE_FIELD)),
        "unique open": Variant(open_, (LENGTH, UNIQUE_FIELD)),
        "unique token": Variant(token, (LENGTH, UNIQUE_FIELD)),
        "answers": Variant(product.target("answers")),
        "split": Variant(product.target("split")),
        "queued": Variant(product.target("queued")),
        "chunked body": Variant(base, (("Transfer-Encoding", "chunked"),), CHUNKED),
        "chunked answer": Variant(product.target("chunked")),
        "closing": Variant(product.target("closing")),
        "reconnecting": Variant(base, (LENGTH, ("Connection", "close"))),
        "log all": Variant(logged["all"]),
        "log sampled": Variant(logged["sampled"]),
        "tls": Variant(_with_tls(rig, port)),
    }


def _documents(port: int) -> list[dict[str, object]]:
    blue = routed("blue", [port])
    halves = [routed(name, [port], trafficPercentile=50) for name in ("blue", "green")]
    paths = {"answers": "/answers", "chunked": "/chunked", "closing": "/close"}
    return [
        manifest("bench", [blue]),
        manifest("open", [blue], authEnabled=False),
        manifest("token", [blue], tokenAuthEnabled=True),
        manifest("split", halves),
        manifest("queued", [routed("blue", [port], FEW_SLOTS)]),
        *(manifest(name, [routed("blue", [port], replica={"scorePath": path})]) for name, path in paths.items()),
    ]


def _logging(rig: Rig, port: int, mode: str) -> Target:
    document = manifest("bench", [routed("blue", [port])])
    return Product(rig, document, arguments=["--access-log", mode]).target()


def _with_tls(rig: Rig, port: int) -> Target:
    cert, key = write_certificate(rig.directory)
    document = manifest("bench", [routed("blue", [port])])
    return Product(rig, document, arguments=["--tls-cert", str(cert), "--tls-key", str(key)], tls=True).target()


def measure(rounds: int, seconds: int) -> dict[str, Variant]:
    """Every variant in interleaved rounds."""
    with Rig() as rig:
        found = variants(rig)
        for each in found.values():
            wrk.drive(each.target, each.script, rig.directory, 1)
        for _, each in rotated(list(found.values()), rounds):
            each.runs.append(wrk.drive(each.target, each.script, rig.directory, seconds))
    return found


def table(found: dict[str, Variant]) -> Table:
    """A row for each feature; the first row is the whole request, and the others add to it or are part of it."""
    base = found["base"]
    whole = (
        "a whole request with defaults and key auth",
        f"{middle(base.costs_ns):,.0f}",
        "head and answer head repeat",
    )
    rows = [whole, *(_row(feature, found) for feature in FEATURES)]
    return Table(("feature", "ns per request", "how"), tuple(rows), words=(0, 2))


def _row(feature: Feature, found: dict[str, Variant]) -> tuple[str, str, str]:
    variant = found[feature.variant]
    cost = median_difference(variant.costs_ns, found[feature.without].costs_ns)
    failed = sum(run.failed for run in variant.runs)
    how = feature.how + (f"; {failed:,} requests FAILED" if failed else "")
    return feature.name, f"{cost:+,.0f}", how


def noise_ns(found: dict[str, Variant]) -> float:
    """Noise: half the range of the base over the rounds. A cost below it is meaningless."""
    costs: Sequence[float] = found["base"].costs_ns
    return (max(costs) - min(costs)) / 2
