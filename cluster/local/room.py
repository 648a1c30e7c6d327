"""Room of one machine for replicas: the memory that they request, and GPUs of their own. Pure.

As in a cluster, a request is reserved for the life of a replica, used or not. The default of `memoryInGB` reserves
nothing here: it is a share of a node, not a measurement of the model, and a laptop runs many small ones.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from serving.endpoint import Resources

UNRESERVED_BYTES = Resources().memory_bytes


class MachineMemory(NamedTuple):
    """Memory of this machine, or of the control group that limits this process, in bytes."""

    total_bytes: int
    available_bytes: int


class Share(NamedTuple):
    """The part of the machine that one replica holds."""

    memory_bytes: int
    """Reserved, used or not."""
    devices: tuple[str, ...]
    """Its GPUs, as in CUDA_VISIBLE_DEVICES."""


class Room:
    """Shares of the machine by replica id. Releasing twice is harmless."""

    def __init__(self, devices: Sequence[str] = ()) -> None:
        """`devices`: the GPUs for replicas, as in CUDA_VISIBLE_DEVICES."""
        self.used_bytes: Mapping[str, int] = {}
        """Replica id -> memory in use, as last measured."""
        self._devices = tuple(devices)
        self._shares: dict[str, Share] = {}

    def refusal(self, wanted: Resources, memory: MachineMemory, freed: Collection[str] = ()) -> str:
        """The reason for not starting a replica now, for people; "" if there is room.

        wanted: resources of the replica.
        memory: of the machine now.
        freed: ids of replicas to be regarded as gone.
        """
        lacks = []
        free_devices = self._free_devices(freed)
        if wanted.gpu > len(free_devices):
            present = "none" if not self._devices else f"{len(self._devices)}, of which {len(free_devices)} are free"
            lacks.append(f"needs {wanted.gpu} GPUs of its own (gpu), this machine has {present}")
        free_bytes = self._free_bytes(memory.available_bytes, freed)
        if needs_memory(wanted) and wanted.memory_bytes > free_bytes:
            lacks.append(
                f"needs {_gigabytes(wanted.memory_bytes)} of memory (memoryInGB), this machine has"
                f" {_gigabytes(memory.total_bytes)}, of which {_gigabytes(max(0, free_bytes))} are free"
            )
        return f"no room: {'; '.join(lacks)}" if lacks else ""

    def acquire(self, holder: str, wanted: Resources) -> tuple[str, ...]:
        """Reserve the share of a replica that `refusal` has no objection to; returns its GPUs."""
        devices = tuple(self._free_devices(())[: wanted.gpu])
        self._shares[holder] = Share(_reserved_bytes(wanted), devices)
        return devices

    def resize(self, holder: str, wanted: Resources) -> None:
        """Change the memory that a running replica reserves."""
        if (share := self._shares.get(holder)) is not None:
            self._shares[holder] = share._replace(memory_bytes=_reserved_bytes(wanted))

    def release(self, holder: str) -> None:
        """Release the share of a replica."""
        self._shares.pop(holder, None)

    def holders(self, prefix: str) -> list[str]:
        """The replicas with a share whose ids begin with `prefix`."""
        return [holder for holder in self._shares if holder.startswith(prefix)]

    def _free_devices(self, freed: Collection[str]) -> list[str]:
        held = {device for holder, share in self._shares.items() if holder not in freed for device in share.devices}
        return [device for device in self._devices if device not in held]

    def _free_bytes(self, available_bytes: int, freed: Collection[str]) -> int:
        """Available memory, less the part of the reservations that is not in use yet."""
        free_bytes = available_bytes
        for holder, share in self._shares.items():
            used_bytes = self.used_bytes.get(holder, 0)
            free_bytes += used_bytes if holder in freed else -max(0, share.memory_bytes - used_bytes)
        return free_bytes


def needs_memory(wanted: Resources) -> bool:
    """True if `wanted` reserves memory on one machine."""
    return wanted.memory_bytes > UNRESERVED_BYTES


def _reserved_bytes(wanted: Resources) -> int:
    return wanted.memory_bytes if needs_memory(wanted) else 0


def _gigabytes(size_bytes: int) -> str:
    size = size_bytes / 1e9
    return f"{size:.3g} GB" if size < 100 else f"{size:.0f} GB"
