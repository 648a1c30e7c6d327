"""Traces: arrivals of requests with their service times, as CSV with a header."""

import csv
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

COLUMNS = ("arrival", "service_ms", "bytes")
MAX_REQUESTS = 10_000_000
LONGEST_SHOWN = 40


class TracedRequest(NamedTuple):
    """One request of a trace."""

    arrival_s: float
    """Seconds from the start of the trace."""
    service_s: float | None = None
    """Time of the replica in seconds; None if it was not recorded."""
    size_bytes: int | None = None
    """Size of the request body; None if it was not recorded."""


class InvalidTrace(ValueError):
    """A trace that cannot be read; the message names line, column, value and rule."""


def read_trace(lines: Iterable[str]) -> list[TracedRequest]:
    """The requests of a CSV trace, in order of arrival.

    Columns: `arrival` in seconds from the start, `service_ms` and `bytes`; the last two are optional, in the header and
    in each row. Rows may be in any order. Raises InvalidTrace for the first broken rule.

    lines: of the file, with or without line ends.
    """
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, None)
        columns = _columns(header)
        requests = [_request(row, columns, rows.line_num) for row in rows if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidTrace(f"line {rows.line_num + 1}: not CSV in UTF-8: {error}") from None
    if not requests:
        raise InvalidTrace("the trace has no request: a row for each is required")
    requests.sort(key=lambda request: request.arrival_s)
    return requests


def _columns(header: list[str] | None) -> dict[str, int]:
    names = [name.strip().lstrip("\ufeff") for name in header or ()]
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "arrival" not in names or len(set(names)) < len(names):
        shown = ", ".join(names)[:LONGEST_SHOWN] or "nothing"
        raise InvalidTrace(
            f"line 1: the header must name the columns {', '.join(COLUMNS)}, each once; only arrival is required"
            f" (got {shown})"
        )
    return {name: index for index, name in enumerate(names)}


def _request(row: list[str], columns: dict[str, int], line: int) -> TracedRequest:
    if len(row) != len(columns):
        raise InvalidTrace(f"line {line}: must have {len(columns)} values, as the header (got {len(row)})")
    texts = {name: row[index].strip() for name, index in columns.items()}
    arrival_s = _number(texts["arrival"], "arrival", line)
    service_s = _number(text, "service_ms", line) / 1000 if (text := texts.get("service_ms")) else None
    size = _number(text, "bytes", line) if (text := texts.get("bytes")) else None
    return TracedRequest(arrival_s, service_s, None if size is None else int(size))


def _number(text: str, column: str, line: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e12:
        raise InvalidTrace(
            f"line {line}, column {column}: must be a number of at least 0 (got {text[:LONGEST_SHOWN]!r})"
        )
    return number


# ---- service times


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Distribution of the service times that a trace lacks."""

    kind: str = "fixed"
    """`fixed`, `exponential` or `lognormal`."""
    mean_s: float = 0.1
    sigma: float = 1.0
    """Standard deviation of the logarithm; `lognormal` only."""

    def draw(self, u: float) -> float:
        """A service time in seconds. `u`: uniform on [0, 1)."""
        if self.kind == "exponential":
            return -self.mean_s * math.log1p(-u)
        if self.kind == "lognormal":
            normal = NormalDist().inv_cdf(min(max(u, 1e-12), 1 - 1e-12))
            return self.mean_s * math.exp(self.sigma * normal - self.sigma**2 / 2)
        return self.mean_s


def service_times(text: str) -> ServiceTimes:
    """A distribution by its text: `100`, `fixed:100`, `exponential:100` or `lognormal:100:0.8` (mean in ms, sigma).

    Raises ValueError with the rule.
    """
    kind, *numbers = text.split(":") if ":" in text else ("fixed", text)
    most = 2 if kind == "lognormal" else 1
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = []
    valid = all(0 < value < 1e9 for value in values)
    if kind not in ("fixed", "exponential", "lognormal") or not 1 <= len(values) <= most or not valid:
        raise ValueError(
            "must be a mean in ms, fixed:MEAN, exponential:MEAN or lognormal:MEAN[:SIGMA], with positive numbers"
            f" (got {text[:LONGEST_SHOWN]!r})"
        )
    return ServiceTimes(kind, values[0] / 1000, *values[1:])


def completed(
    trace: Iterable[TracedRequest], times: ServiceTimes, uniform: Callable[[], float]
) -> list[tuple[float, float]]:
    """(arrival, service time) of each request in seconds; service times that were not recorded are drawn.

    The recorded ones, if there are any, are the distribution of the missing ones (empirical); `times` is it otherwise.

    trace: in order of arrival.
    uniform: draws from [0, 1).
    """
    requests = list(trace)
    recorded = [request.service_s for request in requests if request.service_s is not None]
    if recorded:
        return [
            (arrival_s, recorded[int(uniform() * len(recorded))] if service_s is None else service_s)
            for arrival_s, service_s, _ in requests
        ]
    return [(request.arrival_s, times.draw(uniform())) for request in requests]
