"""Protection of process memory and environment: no core dumps, no ptrace, no unneeded variables."""

import ctypes
import os
import resource
from collections.abc import Mapping

PR_SET_DUMPABLE = 4
PLAIN = frozenset(
    {
        *("HOME", "LOGNAME", "PATH", "TMPDIR", "USER", "VIRTUAL_ENV", "XDG_RUNTIME_DIR"),
        *("LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_DIR", "SSL_CERT_FILE", "OPENSSL_CONF"),
    }
)
FAMILIES = ("LC_", "MALLOC_", "PYTHON", "SCOREFRONT_")
CREDENTIALS = ("_KEY", "_PASSWORD", "_SECRET", "_TOKEN")
"""Ends of names that a worker never gets, not even of its families."""


def keep_memory_private() -> None:
    """No core dump, and no ptrace(2), /proc/PID/mem or /proc/PID/environ for other processes of the same user.

    Root is not kept out. Lasts until the next execve(2), so each program calls it for itself.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The part of an environment that router workers use: settings of ours, the locale, the interpreter, TLS roots."""
    return {
        name: value
        for name, value in environment.items()
        if (name in PLAIN or name.startswith(FAMILIES)) and not name.endswith(CREDENTIALS)
    }
