"""Arguments and output of wrk."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loadtests.bench.wrk import NEVER_THE_SAME, parsed, prepared, quoted, script
from loadtests.peers.rig import Target


def test_bytes_become_a_lua_string_of_the_same_bytes() -> None:
    assert quoted(b'a"\r\n\x001') == '"a\\034\\013\\010\\0001"'


def test_a_head_with_the_mark_gets_another_number_each_time() -> None:
    told = script(b"POST / HTTP/1.1\r\nx: " + NEVER_THE_SAME + b"\r\n\r\n", b"{}")
    assert "request = function()" in told and f"%0{len(NEVER_THE_SAME)}d" in told
    assert "request = function()" not in script(b"POST / HTTP/1.1\r\n\r\n", b"{}")


def test_a_large_body_is_made_by_wrk_itself() -> None:
    assert 'string.rep("01", 5000000)' in script(b"", b"01", 5_000_000)


def test_figures_are_per_request_and_per_second() -> None:
    said = ["Running 2s test", '{"requests": 1000, "microseconds": 2000000, "failed": 3}']
    run = parsed(said, 1.5, "")
    assert (run.rate, run.cpu_ns, run.share_of_core, run.failed) == (500, 1_500_000, 0.75, 3)


def test_a_run_without_figures_is_an_error_with_the_output_of_wrk() -> None:
    with pytest.raises(RuntimeError, match="unable to connect"):
        parsed(["unable to connect"], 0.0, "unable to connect")


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.parametrize("mark", [b"same", NEVER_THE_SAME])
def test_wrk_understands_the_script(mark: bytes, tmp_path: Path) -> None:
    """Without a listener: wrk must get as far as counting failed connections."""
    head = Target("t", 1).head("POST", ("Content-Length", "2"), ("x", mark.decode()))
    (tmp_path / "wrk.lua").write_text(script(head, b"{}"))
    command = ["wrk", "-t1", "-c1", "-d1s", "-s", "wrk.lua", "http://127.0.0.1:1/"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, cwd=tmp_path, check=False)
    said = done.stdout + done.stderr
    assert "unable to connect" in said, said
    assert "syntax" not in said and "lua" not in json.dumps(said).lower()


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_hands_out_the_requests_that_were_made_before(tmp_path: Path) -> None:
    made = [b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\n\xff" % number for number in range(3)]
    lua = prepared(made, tmp_path, "made.requests")
    assert prepared(made[:1], tmp_path, "one.requests") == script(made[0])
    show = 'for _ = 1, 4 do io.write("<", request(), ">") end io.flush()\n'
    (tmp_path / "wrk.lua").write_text(lua + show)
    command = ["wrk", "-t1", "-c1", "-d1s", "-s", "wrk.lua", "http://127.0.0.1:1/"]
    said = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=20, check=False).stdout
    assert b"".join(b"<%b>" % each for each in (*made, made[0])) in said
