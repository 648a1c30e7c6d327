"""Quantiles of histograms. Pure."""

from collections.abc import Iterator, Sequence


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
