"""F17: text of a replica forges no line of a log and steers no terminal."""

import io
import json
import logging
import os
import pty
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.installation import Installation, manifest
from scorefront.cli import show
from scorefront.process.process_log import RecordFormatter
from serving.printable import CONTINUED, one_record, printable

FORGED = "2026-01-01 00:00:00,000 scorefront.up WARNING: all is well"
HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07",
    "\r" + FORGED,
    FORGED,
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028" + FORGED,
    "\x00\x08\x7f",
]
BAD = {"Cc", "Cs", "Zl", "Zp"}
INVISIBLE = "\u00ad\u180e\u200b\u200c\u200d\u2060\u2064\u206a\ufff9\ufeff\U000e0001\U000e0041\U000e007f"


@given(st.text())
def test_nothing_that_steers_is_left(text: str) -> None:
    left = printable(text).replace("\n", "").replace("\t", "")
    assert not [char for char in left if unicodedata.category(char) in BAD]
    assert not [char for char in left if unicodedata.bidirectional(char) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI"}]


@pytest.mark.parametrize("char", INVISIBLE)
def test_invisible_characters_are_shown(char: str) -> None:
    assert printable(f"a{char}b").isascii() and len(printable(char)) > 1


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_ordinary_text_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text())
def test_a_record_begins_one_line_and_goes_on_in_indented_ones(text: str) -> None:
    first, *others = ("begin " + one_record(text)).splitlines()
    assert first.startswith("begin ")
    assert all(line.startswith(CONTINUED.lstrip("\n")) for line in others)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_log_record_holds_it_in_one(text: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RecordFormatter("%(name)s: %(message)s"))
    logger = logging.Logger("x")
    logger.addHandler(handler)
    logger.warning("a replica failed: %s", f"its last lines:\n{text}")
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("and %s", text)
    begun = [line for line in stream.getvalue().splitlines() if not line.startswith("    | ")]
    assert len(begun) == 2 and all(line.startswith("x: ") for line in begun)
    assert "\x1b" not in stream.getvalue()


def test_tables_and_objects_hold_it_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status = {
        "share": 1.0,
        "ready": 0,
        "desired": 1,
        "busy": 0,
        "total": 0,
        "waiting": 0,
        "message": "\n".join(HOSTILE),
    }
    show.print_endpoints([{"metadata": {"name": "iris"}, "status": {"versions": {"blue": status}}}])
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\x9b" not in said and "\r" not in said
    assert FORGED not in said.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\x1b" not in show.shown("\x1b[2J") and "\x9b" not in show.shown("\x9b")


def test_the_log_of_up_and_a_terminal_get_nothing_raw(tmp_path: Path) -> None:
    script = tmp_path / "hostile.py"
    script.write_text(f"import sys\nsys.stdout.write({chr(10).join(HOSTILE)!r} + chr(10))\nsys.exit(3)\n")
    with Installation(tmp_path) as installation:
        installation.start()
        source = {"command": ["python", str(script), "{port}"]}
        document = manifest("hostile", [{"name": "blue", "replica": source, "numReplicas": 1}])
        (tmp_path / "m.json").write_text(json.dumps(document))
        told = {**os.environ, "SCOREFRONT_URL": installation.control}
        cli = [sys.executable, "-m", "scorefront"]
        subprocess.run([*cli, "apply", "-f", str(tmp_path / "m.json")], env=told, check=True)
        deadline = time.monotonic() + 20
        while "its last lines:" not in installation.output.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        said = installation.output.read_bytes().decode()
        assert "its last lines:" in said
        assert "\x1b" not in said and "\r" not in said and "\x9b" not in said
        assert FORGED not in said.splitlines()
        for command in (["get"], ["logs", "hostile"], ["get", "-o", "json"], ["get", "-o", "yaml"]):
            seen = on_terminal([*cli, *command], told)
            assert b"\x1b[2J" not in seen and b"\x1b]0" not in seen and b"\xc2\x9b" not in seen, command


def on_terminal(command: list[str], environment: dict[str, str]) -> bytes:
    """Output of a command on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment)
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait()
    return seen
