"""Room for replicas on one machine: reserved memory, GPUs of their own, and what this machine has of both."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.local.machine_resources import NotDevices, devices, memory
from cluster.local.room import MachineMemory, Room
from serving.endpoint import Resources

GB = 10**9
MACHINE = MachineMemory(16 * GB, 12 * GB)


def needs(memory_gb: float = 0.5, gpu: int = 0) -> Resources:
    return Resources(memory_bytes=int(memory_gb * GB), gpu=gpu)


def test_memory_is_reserved_whether_it_is_used_or_not() -> None:
    room = Room()
    for name in ("a", "b"):
        assert room.refusal(needs(5), MACHINE) == ""
        room.acquire(name, needs(5))
    assert room.refusal(needs(5), MACHINE) == (
        "no room: needs 5 GB of memory (memoryInGB), this machine has 16 GB, of which 2 GB are free"
    )
    room.used_bytes = {"a": 4 * GB, "b": 5 * GB}  # slots in use are not available any more
    assert room.refusal(needs(3), MachineMemory(16 * GB, 3 * GB)) != ""
    assert room.refusal(needs(2), MachineMemory(16 * GB, 3 * GB)) == ""
    room.release("a")
    room.release("a")
    assert room.refusal(needs(3), MachineMemory(16 * GB, 3 * GB)) == ""


def test_a_replica_larger_than_the_machine_has_no_room_ever() -> None:
    for wanted_gb in (100, 1234, 99_999):
        assert f"needs {wanted_gb} GB of memory" in Room().refusal(needs(wanted_gb), MACHINE)


def test_all_that_is_missing_is_named() -> None:
    told = Room().refusal(needs(100, gpu=8), MACHINE)
    assert "needs 8 GPUs" in told and "needs 100 GB of memory" in told


def test_the_default_of_memory_reserves_nothing() -> None:
    room = Room()
    for number in range(50):
        assert room.refusal(Resources(), MachineMemory(GB, 0)) == ""
        room.acquire(str(number), Resources())


def test_each_replica_has_gpus_of_its_own() -> None:
    room = Room(["0", "1", "GPU-2", "3"])
    assert room.acquire("a", needs(gpu=2)) == ("0", "1")
    assert room.acquire("b", needs(gpu=1)) == ("GPU-2",)
    assert room.refusal(needs(gpu=2), MACHINE) == (
        "no room: needs 2 GPUs of its own (gpu), this machine has 4, of which 1 are free"
    )
    assert room.refusal(needs(gpu=2), MACHINE, freed=["b"]) == ""
    room.release("a")
    assert room.acquire("c", needs(gpu=3)) == ("0", "1", "3")
    assert Room().refusal(needs(gpu=8), MACHINE) == "no room: needs 8 GPUs of its own (gpu), this machine has none"


@given(st.lists(st.tuples(st.sampled_from(["acquire", "release"]), st.integers(0, 5), st.integers(0, 3))))
def test_no_gpu_is_held_twice_and_no_memory_reserved_twice(story: list[tuple[str, int, int]]) -> None:
    room, held = Room([str(number) for number in range(6)]), dict[str, tuple[str, ...]]()
    for what, number, size in story:
        holder, wanted = str(number), needs(2.0 * size, gpu=size)
        if what == "release":
            room.release(holder)
            held.pop(holder, None)
        elif holder not in held and not room.refusal(wanted, MACHINE):
            held[holder] = room.acquire(holder, wanted)
            assert len(held[holder]) == size
        taken = [device for share in held.values() for device in share]
        assert len(taken) == len(set(taken))
        assert sum(2 * GB * len(share) for share in held.values()) <= MACHINE.available_bytes


def machine(root: Path, gpus: int = 0, groups: str = "0::/", files: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A root with these device files and control groups: 16 GB, 12 of them available."""
    (root / "proc/self").mkdir(parents=True)
    (root / "dev").mkdir()
    for name in (*(f"nvidia{number}" for number in range(gpus)), "nvidiactl", "nvidia-uvm"):
        (root / "dev" / name).touch()
    (root / "proc/meminfo").write_text("MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable: 12000000 kB\n")
    (root / "proc/self/cgroup").write_text(f"{groups}\n")
    for path, text in files.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def test_memory_is_that_of_the_machine_or_of_the_tightest_group(tmp_path: Path) -> None:
    assert memory(machine(tmp_path / "plain")) == (16_384_000_000, 12_288_000_000)
    group = {"memory.max": "4000000000", "memory.current": "3000000000", "memory.stat": "inactive_file 500000000\nx 1"}
    two = machine(tmp_path / "two", groups="0::/pods/web", files={f"pods/{name}": text for name, text in group.items()})
    (two / "sys/fs/cgroup/pods/web").mkdir()
    (two / "sys/fs/cgroup/pods/web/memory.max").write_text("max\n")
    assert memory(two) == (4_000_000_000, 1_500_000_000)
    old = {
        "memory/memory.limit_in_bytes": "2000000000",
        "memory/memory.usage_in_bytes": "1500000000",
        "memory/memory.stat": "total_inactive_file 100000000",
    }
    assert memory(machine(tmp_path / "one", groups="7:memory:/docker/x", files=old)) == (2_000_000_000, 600_000_000)


def test_gpus_are_declared_or_visible_or_found(tmp_path: Path) -> None:
    root = machine(tmp_path, gpus=3)
    assert devices({}, root) == ("0", "1", "2")
    assert devices({"CUDA_VISIBLE_DEVICES": "1,2"}, root) == ("1", "2")
    assert devices({"CUDA_VISIBLE_DEVICES": "-1"}, root) == ()
    both = {"CUDA_VISIBLE_DEVICES": "1", "SCOREFRONT_GPUS": "GPU-8f2a, MIG-1/0/1"}
    assert devices(both, root) == ("GPU-8f2a", "MIG-1/0/1")
    assert devices({"SCOREFRONT_GPUS": "none"}, root) == () == devices({"SCOREFRONT_GPUS": ""}, root)


@pytest.mark.parametrize("text", ["0,,1", "0;1", "0,0", "0 1"])
def test_a_list_of_gpus_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(NotDevices, match="SCOREFRONT_GPUS: must be a list"):
        devices({"SCOREFRONT_GPUS": text})
