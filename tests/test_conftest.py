"""The guards of conftest themselves: a suite with a leftover fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

LEAVES_A_TASK = """
import asyncio
kept = []
async def test_leaves_a_task():
    kept.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
"""
LEAVES_A_PROCESS = """
import subprocess, sys
kept = []
def test_leaves_a_process():
    kept.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)  # forgotten"]))
"""
TIDY = """
import asyncio, subprocess, sys
async def test_ends_its_task():
    await asyncio.create_task(asyncio.sleep(0))
def test_ends_its_process():
    subprocess.run([sys.executable, "-c", ""], check=True)
"""


def run_suite(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    shutil.copy(here / "conftest.py", folder)
    shutil.copy(here.parent / "pyproject.toml", folder)
    (folder / "test_made_up.py").write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "test_made_up.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("text", "what"), [(LEAVES_A_TASK, "task(s)"), (LEAVES_A_PROCESS, "child process(es)")])
def test_a_test_that_leaves_something_behind_fails_the_suite(tmp_path: Path, text: str, what: str) -> None:
    done = run_suite(tmp_path, text)
    assert done.returncode == 1
    assert f"the test left 1 {what} behind" in done.stdout
    assert "forgotten" in done.stdout


def test_a_tidy_suite_passes(tmp_path: Path) -> None:
    done = run_suite(tmp_path, TIDY)
    assert done.returncode == 0, done.stdout
