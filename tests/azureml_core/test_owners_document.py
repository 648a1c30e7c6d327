"""azureml-core, unmodified, against `scorefront up`: opt-in, since it is under a licence of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.installation import Installation

SWITCH = "SCOREFRONT_AZUREML_CORE"
"""1: install azureml-core into a virtual environment of the test; else the Python of one that has it."""
PACKAGE = "azureml-core==1.61.0.post4"
ROOT = Path(__file__).parent.parent.parent
IRIS = ROOT / "examples" / "iris"

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with azureml-core."""
    chosen = os.environ.get(SWITCH)
    if not chosen:
        pytest.skip(f"{SWITCH}=1 installs {PACKAGE}, which is under Microsoft's licence, and runs the snippets with it")
    if chosen != "1":
        return Path(chosen)
    folder = tmp_path_factory.mktemp("azureml")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", PACKAGE, "setuptools<81"], check=True)
    return folder / "bin" / "python"


def test_every_snippet_of_the_owners_document_runs(interpreter: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "src").mkdir(parents=True)
    shutil.copy(IRIS / "score.py", work / "src" / "score.py")
    shutil.copy(IRIS / "train.py", work / "train.py")
    subprocess.run([sys.executable, work / "train.py"], check=True)
    shutil.move(work / "models" / "blue" / "1" / "model.joblib", work / "model.joblib")
    alone = tmp_path / "installed" / "scorefront"
    alone.mkdir(parents=True)
    for name in ("__init__.py", "azureml.py"):  # all that `pip install --no-deps` lets it use
        shutil.copy(ROOT / "scorefront" / name, alone / name)
    with Installation(tmp_path) as installation:
        installation.start()
        release = f"{sys.version_info.major}.{sys.version_info.minor}"
        script = Path(__file__).parent / "owners_document.py"
        done = subprocess.run(
            [interpreter, "-W", "ignore", script, installation.control, work, release],
            env={**os.environ, "PYTHONPATH": str(alone.parent), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        assert "every snippet ran" in done.stdout
        assert installation.stop() == 0
