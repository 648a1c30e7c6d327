"""A comparison of two versions as sentences for people. Pure."""

from telemetry.comparison import ArmComparison, ArmTally, ArmVerdict


def comparison_words(control: str, treatment: str, found: ArmComparison, confidence: float) -> str:
    """Verdicts, differences and intervals as sentences.

    control, treatment: names of the versions.
    found: the comparison.
    confidence: of its interval.
    """
    if found.difference is None:
        return f"Nothing to compare yet: {control} and {treatment} had no requests in the same interval."
    rates = f"{_percent(_rate(found.treatment))} of its requests against {_percent(_rate(found.control))}"
    interval = f"between {_signed(100 * found.low, 2)} and {_signed(100 * found.high, 2)} percentage points"
    sure = f"with {_percent(confidence)} confidence the true difference is {interval}"
    difference = f"{abs(found.difference) * 100:.2f} percentage points"
    match found.verdict:
        case ArmVerdict.WORSE:
            first = f"{treatment} fails more often than {control}: {rates}, {difference} more; {sure}."
        case ArmVerdict.BETTER:
            first = f"{treatment} fails less often than {control}: {rates}, {difference} less; {sure}."
        case ArmVerdict.UNDECIDED:
            first = (
                f"No difference yet between {treatment} and {control}: {treatment} fails {rates}; {sure}, so it may be"
                " none. More requests narrow the interval."
            )
    return f"{first} {_durations(control, treatment, found)}".rstrip()


def _durations(control: str, treatment: str, found: ArmComparison) -> str:
    if found.duration_difference_s is None:
        return ""
    difference_ms = found.duration_difference_s * 1000
    means = f"{_mean_ms(found.treatment):.1f} ms against {_mean_ms(found.control):.1f} ms"
    longer = "longer" if difference_ms > 0 else "less"
    first = f"On average it takes {abs(difference_ms):.1f} ms {longer} ({means})"
    if abs(difference_ms) < 0.05:
        first = f"Both take equally long on average ({means})"
    if found.duration_bounds_s is None:
        return f"{first}; there are too few requests for an interval."
    low, high = (_signed(bound_s * 1000, 1) for bound_s in found.duration_bounds_s)
    sure = f"the true difference is between {low} and {high} ms"
    return f"{first}; {sure}{'' if found.duration_verdict is not ArmVerdict.UNDECIDED else ', so it may be none'}."


def _mean_ms(tally: ArmTally) -> float:
    return 1000 * tally.duration_s / tally.requests if tally.requests else 0.0


def _rate(tally: ArmTally) -> float:
    return tally.failures / tally.requests if tally.requests else 0.0


def _percent(share: float) -> str:
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + " %"


def _signed(value: float, digits: int) -> str:
    """With a sign unless it is 0. `digits`: after the point."""
    rounded = round(value, digits)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else ''}{abs(rounded):.{digits}f}"
