"""Short time slices of the kernel's scheduler for a router worker.

On Linux 6.12 and later a thread can have slices of its own length. One that wakes with a shorter slice than the running
thread's replaces it at once; else it waits until that slice of 1 to 3 ms ends. A worker runs for some 0.1 ms at a time.
"""

import ctypes
import os
import platform
import struct

SLICE_S = 0.0004
"""A yield (sched_yield(2)) gives up one slice: long enough for several requests, short for who waits meanwhile."""
_SYSCALLS = {"x86_64": (314, 315), "aarch64": (274, 275)}
"""Numbers of sched_setattr(2) and sched_getattr(2) by machine; the C library has no functions for them."""
_ATTRIBUTES = struct.Struct("=IIQiIQQQ")
"""size, policy, flags, nice, priority, runtime, deadline, period; the runtime is the slice in nanoseconds."""


def shorten_slices(slice_s: float = SLICE_S) -> bool:
    """Set the slices of this thread, and of threads that it starts, to `slice_s` seconds (0.0001 to 0.1).

    False, without effect, if the kernel has no such slices, a sandbox forbids them, or the policy is not the usual one.
    """
    if platform.machine() not in _SYSCALLS or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    wanted_ns = round(1e9 * slice_s)
    number, _ = _SYSCALLS[platform.machine()]
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    attributes = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, nice, 0, wanted_ns, 0, 0)
    accepted = ctypes.CDLL(None, use_errno=True).syscall(number, 0, attributes, 0) == 0
    return accepted and slice_ns() == wanted_ns  # an older kernel accepts and ignores it


def slice_ns(thread: int = 0) -> int:
    """The slice of a thread in nanoseconds; 0 if the kernel has none for a single thread.

    `thread`: its id, for the main thread that of the process; default this thread.
    """
    if platform.machine() not in _SYSCALLS:
        return 0
    _, number = _SYSCALLS[platform.machine()]
    attributes = ctypes.create_string_buffer(_ATTRIBUTES.size)
    answered = ctypes.CDLL(None, use_errno=True).syscall(number, thread, attributes, _ATTRIBUTES.size, 0) == 0
    return int(_ATTRIBUTES.unpack(attributes.raw)[5]) if answered else 0
