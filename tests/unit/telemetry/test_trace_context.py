"""W3C Trace Context: valid and malformed fields, and the sample."""

import pytest

from telemetry.trace_context import ParentSpan, parent_span

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def read(*lines: str) -> ParentSpan | None:
    raw = "".join(f"{line}\r\n" for line in ("POST / HTTP/1.1", "Host: a", *lines, "")).encode()
    return parent_span(raw, raw.lower())


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"  {GOOD}\t", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", True),
    ],
)
def test_a_valid_parent_is_read_also_of_a_later_version(value: str, sampled: bool) -> None:
    assert read(f"TraceParent: {value}") == (TRACE.encode(), SPAN.encode(), sampled, b"")


@pytest.mark.parametrize(
    "value",
    [
        *("", "00", GOOD.upper(), GOOD[:-1], GOOD + "0", GOOD + "-", f"{GOOD}-x", f"ff-{TRACE}-{SPAN}-01"),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[:-1]}-{SPAN}-01", f"00-{TRACE}-{SPAN}"),
        *(f"00-{TRACE}-{SPAN}-0g", f"cc-{TRACE}-{SPAN}-01.x", f"00-{TRACE[:-1]}x-{SPAN}-01", f'"{GOOD}"'),
    ],
)
def test_a_malformed_parent_counts_as_none(value: str) -> None:
    assert read(f"traceparent: {value}", "tracestate: a=1") is None


def test_two_parents_count_as_none_and_so_does_none() -> None:
    assert read(f"traceparent: {GOOD}", f"Traceparent: {GOOD}") is None
    assert read("tracestate: a=1") is read() is None


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        (["rojo=00f067,congo=t61rcWkgMzE"], b"rojo=00f067,congo=t61rcWkgMzE"),
        ([" a=1 ,\tb=2 ", "", "c@d=3"], b"a=1,b=2,c@d=3"),
        (["1tenant@vendor=x y"], b"1tenant@vendor=x y"),
        *(([bad], b"") for bad in ("A=1", "a", "a=", "=1", "a=1=2", "a=1,a=2", f"a={'x' * 300}", "a=\x80", "9=1")),
        ([",".join(f"k{number}=1" for number in range(33))], b""),
        ([",".join(f"k{number}={'v' * 200}" for number in range(32))], b""),
    ],
)
def test_the_state_goes_along_whole_or_not_at_all(fields: list[str], state: bytes) -> None:
    found = read(f"traceparent: {GOOD}", *(f"tracestate:{value}" for value in fields))
    assert found is not None and found[3] == state
