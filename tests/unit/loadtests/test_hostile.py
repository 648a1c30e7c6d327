"""The command that measures the cost of hostile senders, on a small input."""

import pytest

from loadtests.hostile import half_heads, main


async def test_a_head_byte_by_byte_is_measured_on_both_sides() -> None:
    found = await half_heads(2000)
    assert len(found) == 2
    assert all(0 < promise.measured < 1000 for promise in found)


def test_the_ratio_of_line_ends_to_zeros_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--only", "crlf", "--megabytes", "1"])
    said = capsys.readouterr().out
    assert said.count("CPU ratio to zeros") == 2


def test_a_small_crowd_is_opened_beside_a_client(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--only", "crowd", "--connections", "20", "--seconds", "0.5", "--rate", "40", "--rounds", "1"])
    said = capsys.readouterr().out
    assert "20 half heads" in said
    assert "requests that failed beside them: 0" in said
