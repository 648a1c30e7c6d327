"""F27: `up` prints keys to the place named by SCOREFRONT_SHOW_KEYS."""

import subprocess
import sys
from pathlib import Path

import pytest

from loadtests.installation import Installation, manifest, witness_version
from router.settings import SettingError
from scorefront.up.banner import ShowKeys, show_keys


@pytest.mark.parametrize(
    ("choice", "on_terminal", "printed"),
    [
        ("always", False, True),
        ("always", True, True),
        ("terminal", False, False),
        ("terminal", True, True),
        ("never", True, False),
    ],
)
def test_places_of_printed_keys(choice: str, on_terminal: bool, printed: bool) -> None:
    assert show_keys({"SCOREFRONT_SHOW_KEYS": choice}).applies(on_terminal) is printed


def test_always_is_the_default_and_anything_else_is_refused() -> None:
    assert show_keys({}) is ShowKeys.ALWAYS
    with pytest.raises(SettingError, match=r"SCOREFRONT_SHOW_KEYS: must be one of always, terminal, never"):
        show_keys({"SCOREFRONT_SHOW_KEYS": "yes"})


def test_a_file_gets_no_key_if_only_terminals_do(tmp_path: Path) -> None:
    with Installation(tmp_path, environment={"SCOREFRONT_SHOW_KEYS": "terminal"}) as installation:
        installation.start(manifest("echo", [witness_version("blue", work_ms=1, numReplicas=1)]))
        said = installation.output.read_text()
        command = [sys.executable, "-m", "scorefront", "keys", "echo", "--control-url", installation.control]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "scorefront keys echo" in said
        assert not [word for line in shown.splitlines() if (word := line.split()[1]) in said]
        assert installation.stop() == 0
