"""Builds of virtual environments by uv, from tiny wheels in a folder and without an index."""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes.wheels import make_wheel
from workspace.builders.interface import BuildError
from workspace.builders.venv_builder import BuildLimits, VenvBuilder
from workspace.environments.definitions import from_conda, from_requirements

pytestmark = pytest.mark.process


class Workshop:
    """A builder over a folder of wheels."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.root = folder / "environments"
        self.log: list[str] = []
        make_wheel(self.wheels, "azureml-inference-server-http", "1.5.0")
        make_wheel(self.wheels, "tiny", "1.0")
        make_wheel(self.wheels, "tiny", "2.0")
        make_wheel(self.wheels, "needy", requires=("tiny>=2", "absent-part"))
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_NO_INDEX": "1",
            "UV_CACHE_DIR": str(folder / "cache"),
            "AWS_SECRET_ACCESS_KEY": "hidden",
        }

    def builder(self, limits: BuildLimits | None = None) -> VenvBuilder:
        return VenvBuilder(self.root, self.environ, limits or BuildLimits(60.0))

    def leftovers(self) -> list[str]:
        return [path.name for path in self.root.iterdir() if len(path.name) != 64]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def version_in(python: Path) -> str:
    return subprocess.run(
        [python, "-c", "import tiny; print(tiny.version)"], capture_output=True, text=True
    ).stdout.strip()


async def test_equal_definitions_share_one_environment(workshop: Workshop) -> None:
    builder = workshop.builder()
    one, other = from_requirements("Tiny==1.0"), from_requirements("tiny == 1.0.0  # same")
    both = await asyncio.gather(builder.build(one, workshop.log.append), builder.build(other, workshop.log.append))
    assert sorted(each.found for each in both) == [False, True] and both[0].interpreter == both[1].interpreter
    assert version_in(both[0].interpreter) == "1.0"
    again = await workshop.builder().build(one, workshop.log.append)
    assert again.found and workshop.leftovers() == []
    assert any("tiny 1.0" in line for line in workshop.log)


async def test_packages_of_conda_and_pip_are_installed(workshop: Workshop) -> None:
    spec = from_conda({"dependencies": ["tiny=2", {"pip": ["azureml-defaults"]}]})
    built = await workshop.builder().build(spec, workshop.log.append)
    assert version_in(built.interpreter) == "2.0" and "azureml-defaults: satisfied by scorefront" in workshop.log


@pytest.mark.parametrize(
    ("text", "package"), [("no-such-package", "no-such-package"), ("tiny==9", "tiny"), ("needy", "absent-part")]
)
async def test_what_cannot_be_installed_is_named(workshop: Workshop, text: str, package: str) -> None:
    with pytest.raises(BuildError) as failure:
        await workshop.builder().build(from_requirements(text), workshop.log.append)
    assert package in str(failure.value) and "\n" not in str(failure.value)
    assert workshop.leftovers() == []


async def test_without_network_the_package_that_is_not_cached_is_named(workshop: Workshop) -> None:
    del workshop.environ["PIP_NO_INDEX"]
    workshop.environ["PIP_INDEX_URL"] = "http://127.0.0.1:9/simple"
    with pytest.raises(BuildError, match="lonely: is not cached, and an index cannot be reached"):
        await workshop.builder().build(from_requirements("lonely"), workshop.log.append)


async def test_a_release_of_python_that_is_nowhere_is_named(workshop: Workshop) -> None:
    with pytest.raises(BuildError, match=r"python=3\.99 is not on this machine"):
        await workshop.builder().build(from_conda({"dependencies": ["python=3.99"]}), workshop.log.append)


async def test_a_cancelled_build_leaves_neither_files_nor_processes(workshop: Workshop) -> None:
    sleeper = workshop.root.parent / "sleeper"
    sleeper.mkdir(parents=True)
    (sleeper / "setup.py").write_text("import time\ntime.sleep(600)\n")
    workshop.environ["UV_NO_INDEX"] = "1"
    build = asyncio.create_task(
        workshop.builder().build(from_requirements(f"slow @ file://{sleeper}"), workshop.log.append)
    )
    deadline = time.monotonic() + 30
    mark = str(workshop.root)

    def running() -> list[int]:
        return [each.pid for each in psutil.process_iter(["cmdline"]) if mark in " ".join(each.info["cmdline"] or ())]

    while not running() and not build.done() and time.monotonic() < deadline:  # noqa: ASYNC110 - processes
        await asyncio.sleep(0.02)
    build.cancel()
    with pytest.raises((asyncio.CancelledError, BuildError)):
        await build
    assert running() == [] and workshop.leftovers() == []


async def test_a_build_has_a_time_limit(workshop: Workshop) -> None:
    with pytest.raises(BuildError, match=r"longer than 0\.001 s"):
        await workshop.builder(BuildLimits(0.001)).build(from_requirements("tiny"), workshop.log.append)
    assert workshop.leftovers() == []
