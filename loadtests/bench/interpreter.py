"""The interpreter that runs the measured Python: its version, its build, and a change to another one."""

import os
import platform
import subprocess
import sys
import sysconfig
import timeit
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.peers.rig import ROOT

_BUILDS = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}


def described(variables: Mapping[str, Any] | None = None) -> str:
    """Version and build of this interpreter. `variables`: of its build, default those of sysconfig."""
    options = str((sysconfig.get_config_vars() if variables is None else variables).get("CONFIG_ARGS") or "")
    optimised = [word for option, word in _BUILDS.items() if option in options]
    # Debian compiles with PGO without an option of configure: only the reference loop shows it.
    build = " and ".join(optimised) if optimised else "neither PGO nor LTO"
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{version}, configured with {build}; reference loop {reference_ms():.1f} ms"


def reference_ms() -> float:
    """Time of a fixed piece of pure Python in this interpreter, best of ten, in milliseconds."""
    return 1000 * min(timeit.repeat(_reference, number=1, repeat=10))


def _reference() -> int:
    found: dict[bytes, int] = {}
    for number in range(20_000):
        name, _, value = (b"x-field-%d: %d" % (number & 63, number)).partition(b": ")
        found[name.lower()] = found.get(name, 0) + len(value)
    return sum(found.values())


def change(interpreter: str, module: str, arguments: Sequence[str]) -> None:
    """Run the module in another interpreter with the packages of this one; returns only if it is this one.

    `interpreter`: program, of the same minor version. `module`: name. `arguments`: its arguments.
    """
    if os.path.realpath(interpreter) == os.path.realpath(sys.executable):
        return
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run([interpreter, "-c", ask], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise SystemExit(f"--python {interpreter}: {error}") from None
    wanted = "{}.{}".format(*sys.version_info[:2])
    if found.stdout.strip() != wanted:
        raise SystemExit(
            f"--python {interpreter}: must be Python {wanted}, for its packages; is {found.stdout.strip()}"
        )
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    os.execve(interpreter, [interpreter, "-m", module, *arguments], environment)
