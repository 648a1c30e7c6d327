"""F7: no process of ours leaves its memory or a needless variable to another process of its user."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtests.installation import Installation, manifest, witness_version
from scorefront.process.process_hardening import worker_environment
from tests.security.other_user import NOBODY, as_user, needs_root

SECRETS = {
    "MY_CLOUD_SECRET": "hunter2",
    "AWS_SECRET_ACCESS_KEY": "hunter3",
    "SCOREFRONT_TOKEN": "hunter4",
    "SCOREFRONT_KEY": "hunter5",
    "HTTPS_PROXY": "http://user:hunter6@proxy",
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with Installation(tmp_path_factory.mktemp("memory"), environment=SECRETS) as made:
        made.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        yield made
        assert made.stop() == 0


def ours(installation: Installation) -> dict[str, int]:
    """`up` and a worker of it."""
    assert installation.process is not None
    worker = next(one for one in installation.descendants() if "router-worker" in one.cmdline())
    return {"up": installation.process.pid, "worker": worker.pid}


def test_no_process_can_dump_core(installation: Installation) -> None:
    for pid in ours(installation).values():
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_a_process_that_is_not_dumpable_belongs_to_root_in_proc(installation: Installation) -> None:
    if os.geteuid() == 0:
        pytest.skip("run as another user to see it; the next test does so for root")
    for pid in ours(installation).values():
        assert Path(f"/proc/{pid}/environ").stat().st_uid == 0


@needs_root
def test_a_process_of_the_same_user_reads_neither_memory_nor_environment() -> None:
    def attempt() -> bytes:
        from scorefront.process.process_hardening import keep_memory_private

        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            keep_memory_private()
            os.write(told, b"x")
            os.read(ready_to_end, 1)
            os._exit(0)
        os.read(ready, 1)
        said = []
        for name in ("environ", "mem", "fd"):
            path = f"/proc/{pid}/{name}"
            try:
                os.listdir(path) if name == "fd" else open(path, "rb").close()
                said.append(name)
            except PermissionError:
                pass
        os.write(end, b"x")
        os.waitpid(pid, 0)
        return ",".join(said).encode() or b"nothing"

    import scorefront.process.process_hardening  # noqa: F401 - loaded before the uid changes: the folder of the code may be closed

    ready_to_end, end = os.pipe()
    assert as_user(NOBODY, attempt) == b"nothing"


def test_a_worker_gets_no_secret_of_its_parent(installation: Installation) -> None:
    environment = psutil.Process(ours(installation)["worker"]).environ()
    assert not [name for name in SECRETS if name in environment]
    assert not [value for value in environment.values() if "hunter" in value]


def test_a_worker_gets_its_settings_and_the_variables_of_its_interpreter() -> None:
    needed = {
        "SCOREFRONT_MAX_CONNECTIONS": "7",
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": "/etc/ca",
        "TZ": "UTC",
    }
    assert worker_environment({**needed, **SECRETS, "KUBECONFIG": "/root/.kube/config"}) == needed
