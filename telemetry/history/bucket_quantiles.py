"""Quantiles and spread of values of which a histogram and the sum are known. Pure."""

import math
from collections.abc import Iterator, Sequence
from typing import Final

LONGEST_S: Final = 3600.0
"""Assumed upper bound of the last bucket."""


def quantiles(bounds_s: Sequence[float], counts: Sequence[int], shares: Sequence[float]) -> Iterator[float]:
    """Values below which the shares of the counted values lie, interpolated within their bucket.

    Values above the last bound count as the last bound.

    bounds_s: upper bounds.
    counts: values per bucket, not cumulative, one more than bounds; their sum must not be 0.
    shares: in (0, 1], ascending.
    """
    total = sum(counts)
    place, below = 0, 0
    for share in shares:
        rank = share * total
        while below + counts[place] < rank and place < len(bounds_s):
            below += counts[place]
            place += 1
        if place == len(bounds_s):
            yield bounds_s[-1]
        else:
            lower = bounds_s[place - 1] if place else 0.0
            yield lower + (bounds_s[place] - lower) * (rank - below) / counts[place]


def deviation_bound(bounds_s: Sequence[float], counts: Sequence[int], sum_s: float) -> float:
    """The largest standard deviation that the counted values can have.

    Values between two bounds deviate most if each of them lies on one of the two; the sum says how many lie on which.

    bounds_s: upper bounds.
    counts: values per bucket, not cumulative, one more than bounds; their sum must not be 0.
    sum_s: of the values.
    """
    lower = (0.0, *bounds_s)
    upper = (*bounds_s, max(LONGEST_S, 2 * lower[-1]))
    squares = sum(count * low * low for count, low in zip(counts, lower, strict=True))
    rest_s = sum_s - sum(count * low for count, low in zip(counts, lower, strict=True))
    for count, low, high in zip(reversed(counts), reversed(lower), reversed(upper), strict=True):
        risen_s = min(max(rest_s, 0.0), count * (high - low))
        squares += risen_s * (low + high)
        rest_s -= risen_s
    number = sum(counts)
    return math.sqrt(max(squares / number - (sum_s / number) ** 2, 0.0))
