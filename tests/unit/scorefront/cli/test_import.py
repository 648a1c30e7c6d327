"""`scorefront import`: the files as `az ml` took them, and what becomes of keys."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from scorefront.cli.app import run
from scorefront.cli.imported_environment import declare_environment
from serving.manifest import parse

IC = '{"entryScript": "score.py", "sourceDirectory": "."}'
DC = '{"computeType": "AKS", "autoScaler": {"autoscaleEnabled": true, "maxReplicas": 3}}'
KEY = "abcdefghijklmnopqrstuvwxyz012345"


def imported(
    folder: Path, capsys: pytest.CaptureFixture[str], ic: str | bytes = IC, dc: str | bytes = DC, *options: str
) -> tuple[dict[str, Any], str]:
    """The manifest and the notes."""
    for name, content in (("ic", ic), ("dc", dc)):
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    words = ["import", "-n", "iris", "--ic", str(folder / "ic"), "--dc", str(folder / "dc"), *options]
    assert run(words) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    document = yaml.safe_load(out)
    if not options:
        parse(document)
    return document, err


@pytest.mark.parametrize(
    "encoded",
    [
        IC.encode(),
        b"\xef\xbb\xbf" + IC.replace(" ", "\r\n").encode(),
        IC.encode("utf-16"),
        IC.encode("utf-16-le"),
        IC.encode("utf-16-be"),
        b"entryScript: score.py\nsourceDirectory: .\nenvironment:\n",
        IC.replace("}", ",\n}").encode(),
        IC.replace("}", ', // a "comma"\n/* two\nlines */ }').encode(),
        IC.replace(" ", "\t").encode(),
        "entryScript: score.py\nsourceDirectory: .".encode("utf-16"),
    ],
    ids=[
        "utf-8",
        "BOM",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "YAML",
        "trailing comma",
        "comments",
        "tabs",
        "YAML in utf-16",
    ],
)
def test_files_are_yaml_or_json_in_utf_8_or_utf_16(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document, err = imported(tmp_path, capsys, encoded)
    assert document["spec"]["versions"][0]["replica"] == {"entryScript": "score.py", "sourceDirectory": "."}
    assert err == ""


def test_a_comma_in_a_text_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variables = {"A": 'x,} "y', "B": ",]", "D": "http://x/*/y", "E": "/* z */"}
    text = json.dumps({"entryScript": "score.py", "environment": {"environmentVariables": variables}})
    document, _ = imported(tmp_path, capsys, text.replace('"B"', '"C": "1" , "B"').replace("}}}", "},},}"))
    assert document["spec"]["versions"][0]["replica"]["env"] == {**variables, "C": "1"}


def test_a_conda_file_becomes_the_environment_and_notes_name_file_and_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "env.yml").write_text("dependencies: [python=3.8, {pip: [xgboost==1.0]}]")
    legacy = "entryScript: score.py\nruntime: python\ncondaFile: env.yml\nenableGpu: True\nbaseImage:\n"
    document, err = imported(tmp_path, capsys, legacy, DC[:-1] + ', "sslEnabled": false}')
    assert document["spec"]["versions"][0]["containerResourceRequirements"] == {"gpu": 1}
    assert all(f"note: {tmp_path}/ic: {key}: " in err for key in ("runtime", "condaFile", "enableGpu"))
    assert document["spec"]["versions"][0]["replica"]["environment"].endswith("env.yml")
    assert (
        "its packages are installed" in err and f"note: {tmp_path}/dc: sslEnabled: " in err and "baseImage" not in err
    )


def test_keys_are_written_beside_the_manifest_for_their_owner_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "e.primary.key").write_text("older")
    with_keys = DC[:-1] + f', "keys": {{"primaryKey": "{KEY}", "secondaryKey": "{KEY[::-1]}"}}}}'
    _, err = imported(tmp_path, capsys, IC, with_keys, "-o", str(tmp_path / "e.yaml"))
    files = [tmp_path / "e.primary.key", tmp_path / "e.secondary.key"]
    assert [file.read_text().strip() for file in files] == [KEY, KEY[::-1]]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert f"scorefront keys iris --set-primary {files[0]} --set-secondary {files[1]}" in err
    assert KEY not in err and KEY not in (tmp_path / "e.yaml").read_text()


def test_v2_yaml_is_read_whatever_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "code_configuration: {code: ./src, scoring_script: score.py}"
    (tmp_path / "endpoint.yml").write_text("name: churn\nauth_mode: aml_token\ntraffic: {blue: 100}\n")
    for name in ("blue", "green"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\nendpoint_name: churn\ntype: kubernetes\n{code}\n")
    files = [str(tmp_path / f"{name}.yml") for name in ("endpoint", "blue", "green")]
    words = ["import", "--ic", files[0], "--dc", files[1], "--dc", files[2], "-o", str(tmp_path / "m.yaml")]
    assert run(words) == 0
    document = yaml.safe_load((tmp_path / "m.yaml").read_text())
    assert parse(document).spec.tokenAuthEnabled
    assert [version["replica"]["sourceDirectory"] for version in document["spec"]["versions"]] == ["src", "src"]


@pytest.mark.parametrize(
    ("ic", "dc", "words"),
    [
        (IC, '{"computeType": "ACI"}', "dc: computeType: must be: one of aks, aksendpoint"),
        (
            IC,
            '{"computeType": "aks", "numReplica": 1}',
            "dc: numReplica: is not a known field; did you mean",
        ),
        ('{"entryScript": ', DC, "ic, line 1: is not JSON"),
        ("entryScript: [", DC, "is not valid YAML"),
        (b"\xff\xfe\x00", DC, "is not text in UTF-8 or UTF-16"),
        ("", DC, "one document"),
        ("{}", DC, "ic: entryScript: is required"),
    ],
)
def test_a_wrong_file_is_refused_by_file_key_and_rule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ic: str | bytes, dc: str, words: str
) -> None:
    (tmp_path / "ic").write_bytes(ic if isinstance(ic, bytes) else ic.encode())
    (tmp_path / "dc").write_text(dc)
    assert run(["import", "-n", "iris", "--ic", str(tmp_path / "ic"), "--dc", str(tmp_path / "dc")]) == 2
    assert words in capsys.readouterr().err


def test_without_a_name_it_is_that_of_the_service_or_of_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Churn_Model"
    folder.mkdir()
    (folder / "ic").write_text(IC)
    for content, name in ((DC, "churn-model"), (DC[:-1] + ', "name": "svc"}', "svc")):
        (folder / "dc").write_text(content)
        assert run(["import", "--ic", str(folder / "ic"), "--dc", str(folder / "dc")]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == name


def test_inline_packages_are_written_beside_the_manifest(tmp_path: Path) -> None:
    conda = tmp_path / "e.conda.yml"
    inference = {"environment": {"python": {"condaDependencies": {"dependencies": ["python=3.8", "xgboost"]}}}}
    replica: dict[str, Any] = {}
    (note,) = declare_environment(inference, replica, None, tmp_path, tmp_path / "e.yaml")
    assert replica == {"environment": "e.conda.yml"} and "xgboost" in conda.read_text() and str(conda) in note


def test_a_user_managed_python_is_the_environment(tmp_path: Path) -> None:
    python = {"userManagedDependencies": True, "interpreterPath": "/opt/x/bin/python"}
    replica: dict[str, Any] = {}
    (note,) = declare_environment({"environment": {"python": python}}, replica, None, tmp_path, None)
    assert replica == {"environment": "/opt/x/bin/python"} and "azureml-inference-server-http" in note
