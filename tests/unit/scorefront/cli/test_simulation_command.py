"""The command simulate: its JSON, table and chart, and the refusals of its arguments."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from autoscaler.simulation import suggestion
from scorefront.cli.app import run

TRACE = "arrival,service_ms\n" + "".join(f"{number / 10},400\n" for number in range(600))


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "trace.csv"
    file.write_text(TRACE)
    return str(file)


def test_a_policy_without_options_has_the_defaults(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", trace, "-o", "json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["policy"] == "target=70,min=1,max=10,window=60,slots=1"
    assert set(result) == {
        *("policy", "replicaSeconds", "oracleReplicaSeconds", "waitP50Ms", "waitP95Ms", "waitP99Ms", "refused"),
        *("utilization", "replicas"),
    }
    assert result["replicas"][0] == [0.0, 1]
    assert result["replicaSeconds"] > result["oracleReplicaSeconds"] > 0


def test_each_policy_is_one_object_with_its_changes(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--policy", "target=50,min=2", "--policy", "slots=4,max=3,window=10", "--min", "1"]
    assert run(["simulate", trace, *options, "-o", "json"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert [each["policy"] for each in results] == [
        "target=50,min=2,max=10,window=60,slots=1",
        "target=70,min=1,max=3,window=10,slots=4",
    ]


def test_the_table_has_a_row_for_each_policy(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", trace, "--policy", "min=1", "--policy", "min=8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "× ORACLE" in lines[0] and "min=8" in lines[2]


def test_the_chart_is_one_svg_without_references(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", trace, "--policy", "min=1", "--policy", "min=8", "-o", "svg"]) == 0
    picture = capsys.readouterr().out
    tree = ElementTree.fromstring(picture)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"min=1" in picture, "min=8" in picture} == {True}
    assert "href" not in picture


def test_a_suggestion_keeps_the_goal(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", trace, "--suggest", "--p99", "100ms", "-o", "json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["refused"] == 0 and result["waitP99Ms"] <= 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "target=0"], "--policy: target: must be a whole number from 1 to 100; got '0'"),
        (["--policy", "goal=1"], "--policy: 'goal=1': must be NAME=N with one of target, min"),
        (["--policy", "min=1,min=2"], "each once"),
        (["--policy", "min=20"], "min: must be at most max (10); got 20"),
        (["--min", "11"], "--min: must be at most --max (10); got 11"),
        (["--service", "uniform:3"], "--service: must be a mean in ms"),
        (["--suggest", "--p99", "fast"], "--p99: must be a time from 0ms"),
        (["--slots", "0"], "--slots"),
    ],
)
def test_a_wrong_argument_is_named_with_its_rule(
    trace: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert run(["simulate", trace, *options]) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_or_missing_trace_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: No such file" in capsys.readouterr().err
    (tmp_path / "wrong.csv").write_text("arrival\nsoon\n")
    assert run(["simulate", str(tmp_path / "wrong.csv")]) == 2
    assert "wrong.csv: line 2, column arrival" in capsys.readouterr().err


def test_a_goal_that_nothing_keeps_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggestion, "MOST_REPLICAS", 10)
    file = tmp_path / "burst.csv"
    file.write_text("arrival\n" + "0\n" * 20)
    assert run(["simulate", str(file), "--suggest", "--p99", "0ms", "--service", "60000"]) == 1
    assert "no policy keeps a 99 % wait of 0ms" in capsys.readouterr().err
