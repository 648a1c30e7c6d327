"""Settings of `loadtests/locustfile.py`, from the environment."""

import json
import random
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from autoscaler.simulation.trace import InvalidTrace, TracedRequest, read_trace
from loadtests.arrivals import InvalidLoad, load_shape, positive
from scorefront.up.sample_request import DEFAULT, described_sample

DESCRIPTION_S = 5.0
"""Time for swagger.json."""
PLACEHOLDER = "{service_ms}"
"""Replaced in the payload by the service time of the trace's row, for models that are told how long to work."""
THRESHOLDS = {
    "SCOREFRONT_MAX_FAILURE_PERCENT": "percent of requests that may fail",
    "SCOREFRONT_MAX_P95_MS": "highest 95 % response time",
    "SCOREFRONT_MAX_P99_MS": "highest 99 % response time",
    "SCOREFRONT_MAX_LATENESS_MS": "highest 99 % lateness of arrivals (open loop)",
}


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Payload, arrivals and thresholds of a run."""

    headers: Mapping[str, str]
    payload: str
    arrivals: tuple[TracedRequest, ...] | None
    """Open loop; None: closed loop with Locust's users."""
    thresholds: Mapping[str, float]
    """By name in THRESHOLDS."""

    def body(self, request: TracedRequest) -> str:
        """The body of a request of a trace."""
        if PLACEHOLDER not in self.payload:
            return self.payload
        return self.payload.replace(PLACEHOLDER, f"{(request.service_s or 0.0) * 1000:g}")


def load_settings(environ: Mapping[str, str], scoring_url: str) -> LoadSettings:
    """The settings of a run. Raises InvalidLoad.

    environ: the environment variables.
    scoring_url: of the endpoint, for the sample in its description.
    """
    credential = environ.get("SCOREFRONT_SCORING_TOKEN") or environ.get("SCOREFRONT_KEY")
    headers = {"Content-Type": "application/json"}
    if credential:
        headers["Authorization"] = f"Bearer {credential.strip()}"
    return LoadSettings(
        headers,
        _payload(environ.get("SCOREFRONT_PAYLOAD"), scoring_url, headers),
        _arrivals(environ),
        {name: positive(name, environ[name]) for name in THRESHOLDS if environ.get(name)},
    )


def _payload(file: str | None, scoring_url: str, headers: Mapping[str, str]) -> str:
    """The file's content; else the sample of the model's description; else DEFAULT."""
    if file:
        try:
            return Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidLoad(f"SCOREFRONT_PAYLOAD: {file}: {error}") from None
    described = scoring_url.rstrip("/").removesuffix("/score") + "/swagger.json"
    if not described.startswith(("http://", "https://")):
        raise InvalidLoad(f"--host: must be the scoring URL of an endpoint, http:// or https:// (got {scoring_url!r})")
    try:
        request = urllib.request.Request(described, headers=dict(headers))
        with urllib.request.urlopen(request, timeout=DESCRIPTION_S) as answer:
            return described_sample(json.load(answer)) or DEFAULT
    except (OSError, ValueError, urllib.error.URLError):
        return DEFAULT


def _arrivals(environ: Mapping[str, str]) -> tuple[TracedRequest, ...] | None:
    shape, rate = environ.get("SCOREFRONT_SHAPE"), environ.get("SCOREFRONT_RATE")
    if not shape and not rate:
        return None
    shape = shape or "steady"
    kind, _, file = shape.partition(":")
    if kind == "trace":
        return tuple(_trace(file))
    made = load_shape(shape, rate or "10", environ.get("SCOREFRONT_SECONDS") or "60")
    draw = random.Random(int(environ.get("SCOREFRONT_SEED") or 1))
    even = environ.get("SCOREFRONT_ARRIVALS", "poisson") == "even"
    return tuple(map(TracedRequest, made.arrivals((lambda: 1.0) if even else (lambda: draw.expovariate(1.0)))))


def _trace(file: str) -> Iterator[TracedRequest]:
    try:
        with open(file, encoding="utf-8", newline="") as lines:
            yield from read_trace(lines)
    except InvalidTrace as error:
        raise InvalidLoad(f"SCOREFRONT_SHAPE: {file}: {error}") from None
    except OSError as error:
        raise InvalidLoad(f"SCOREFRONT_SHAPE: trace:{file}: {error.strerror}") from None
