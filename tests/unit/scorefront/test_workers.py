"""Number of router workers from `--workers`."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scorefront.cli import arguments
from scorefront.cli.command_errors import InvalidInput
from scorefront.cores import allowed_cores


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a root with these control groups, for a process that is bound to 8 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))

    def make(own: str, **limits: str) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"4:memory:/elsewhere\n0::{own}\n")
        for group, limit in limits.items():
            folder = tmp_path / "sys/fs/cgroup" / group.replace("_", "/").strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.max").write_text(f"{limit}\n")
        return tmp_path

    return make


def test_without_a_limit_every_core_that_the_process_is_bound_to_counts(system: Callable[..., Path]) -> None:
    assert allowed_cores(system("/a", a="max 100000")) == 8


def test_without_control_groups_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 5})
    assert allowed_cores(tmp_path) == 3


def test_the_limit_of_a_container_counts(system: Callable[..., Path]) -> None:
    assert allowed_cores(system("/", _="300000 100000")) == 3


@pytest.mark.parametrize(("inner", "outer"), [("200000 100000", "max 100000"), ("max 100000", "100000 50000")])
def test_the_tightest_group_on_the_way_up_counts(system: Callable[..., Path], inner: str, outer: str) -> None:
    assert allowed_cores(system("/pods/web", pods=outer, pods_web=inner)) == 2


@pytest.mark.parametrize(("limit", "cores"), [("50000 100000", 1), ("150000 100000", 1), ("290000 100000", 2)])
def test_a_part_of_a_core_is_no_worker_and_one_there_always_is(
    system: Callable[..., Path], limit: str, cores: int
) -> None:
    assert allowed_cores(system("/a", a=limit)) == cores


@pytest.mark.parametrize("limit", ["", "max", "1 2 3", "100000 0", "-1 100000", "many 100000"])
def test_a_limit_that_cannot_be_read_is_none(system: Callable[..., Path], limit: str) -> None:
    assert allowed_cores(system("/a", a=limit)) == 8


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The same with control groups of version 1, beside version 2 without controllers, as systemd mounts them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))

    def make(own: str, **quotas: str) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        lines = f"4:memory:/elsewhere\n3:cpuset:/cpus\n2:cpu,cpuacct:{own}\n1:name=systemd:/init\n0::/init\n"
        (tmp_path / "proc/self/cgroup").write_text(lines)
        for group, quota in quotas.items():
            folder = tmp_path / "sys/fs/cgroup/cpu" / group.replace("_", "/").strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (folder / "cpu.cfs_period_us").write_text("100000\n")
        return tmp_path

    return make


def test_a_container_on_a_node_with_older_control_groups_finds_its_own_as_the_topmost(
    older: Callable[..., Path],
) -> None:
    assert allowed_cores(older("/kubepods/pod1/abc", _="200000")) == 2


def test_the_tightest_of_the_older_groups_counts_too(older: Callable[..., Path]) -> None:
    assert allowed_cores(older("/pods/web", _="-1", pods="300000", pods_web="500000")) == 3


@pytest.mark.parametrize("quota", ["-1", "", "many"])
def test_an_older_group_without_a_limit_allows_every_core(older: Callable[..., Path], quota: str) -> None:
    assert allowed_cores(older("/a", a=quota)) == 8


def test_auto_leaves_it_to_the_load() -> None:
    assert arguments.workers("auto") is None


def test_a_number_is_taken_as_it_is() -> None:
    assert [arguments.workers(text) for text in ("1", "2", "64")] == [1, 2, 64]


@pytest.mark.parametrize("text", ["0", "65", "-1", "two", "1.5", "", "٣", "9" * 5000])
def test_anything_else_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^--workers: must be auto or 1 to 64; got "):
        arguments.workers(text)
