"""Slices of a thread; each test uses a thread of its own, because they stay."""

import os
import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from scorefront.process.time_slices import SLICE_S, shorten_slices, slice_ns

T = TypeVar("T")

needs_slices = pytest.mark.skipif(slice_ns() == 0, reason="the kernel has no slices of a single thread (before 6.12)")


def in_a_thread(action: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(action).result()


@needs_slices
def test_a_thread_gets_short_slices_and_no_other_does() -> None:
    before = slice_ns()
    assert in_a_thread(lambda: (shorten_slices(), slice_ns())) == (True, round(1e9 * SLICE_S))
    assert slice_ns() == before


@needs_slices
def test_the_niceness_stays() -> None:
    def shortened() -> tuple[bool, int]:
        os.setpriority(os.PRIO_PROCESS, 0, 7)
        return shorten_slices(), os.getpriority(os.PRIO_PROCESS, 0)

    assert in_a_thread(shortened) == (True, 7)


def test_another_policy_is_left_alone() -> None:
    def shortened() -> tuple[bool, int]:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return shorten_slices(), os.sched_getscheduler(0)

    assert in_a_thread(shortened) == (False, os.SCHED_BATCH)


def test_a_machine_of_an_unknown_kind_keeps_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert not in_a_thread(shorten_slices)
    assert slice_ns() == 0


@needs_slices
def test_a_kernel_that_ignores_slices_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorefront.process.time_slices.slice_ns", lambda: 0)
    assert not in_a_thread(shorten_slices)
