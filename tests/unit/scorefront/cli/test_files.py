"""Manifests from files: reading, and the message for each kind of fault."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scorefront.cli.manifest_files import MAX_FILE_BYTES, UnreadableFile, read_manifests
from scorefront.cli.show import as_json, as_yaml
from serving.faults import InvalidManifest
from serving.manifest import parse, resolve_paths, to_document
from tests.unit.serving.documents import valid_documents

GOOD = """\
apiVersion: scorefront.io/v1alpha1
kind: ScoringEndpoint
metadata: {name: NAME}
spec:
  versions:
  - name: blue
    replica: {entryScript: code/score.py, modelDir: models}
"""


def good(name: str = "iris") -> str:
    return GOOD.replace("NAME", name)


def write(folder: Path, text: str | bytes, name: str = "endpoint.yaml") -> str:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


def refusal(folder: Path, text: str | bytes, name: str = "endpoint.yaml") -> str:
    file = write(folder, text, name)
    with pytest.raises(UnreadableFile) as caught:
        read_manifests([file])
    assert str(caught.value).startswith(file)
    return str(caught.value).removeprefix(file)


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    (manifest,) = read_manifests([write(tmp_path, good())])
    replica = manifest.document["spec"]["versions"][0]["replica"]
    assert replica["modelDir"] == str(tmp_path / "models")
    assert replica["entryScript"].endswith("code/score.py")
    assert (manifest.name, manifest.source) == ("iris", str(tmp_path / "endpoint.yaml"))


def test_one_file_may_hold_several_endpoints(tmp_path: Path) -> None:
    file = write(tmp_path, f"---\n{good('iris')}---\n{good('roses')}---\n")
    assert [manifest.name for manifest in read_manifests([file])] == ["iris", "roses"]


@pytest.mark.parametrize("name", ["all.yaml", "all.json"])
@pytest.mark.parametrize("head", [{"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}}, {}])
def test_a_list_of_endpoints_is_read(tmp_path: Path, name: str, head: dict[str, Any]) -> None:
    documents = [yaml.safe_load(good(each)) for each in ("iris", "roses")]
    listing = {**head, "items" if head else "value": documents}
    file = write(tmp_path, json.dumps(listing) if name.endswith("json") else yaml.safe_dump(listing), name)
    assert [(each.name, each.source) for each in read_manifests([file])] == [
        ("iris", f"{file}, item 1"),
        ("roses", f"{file}, item 2"),
    ]


def test_the_faults_of_all_documents_are_told_with_their_places(tmp_path: Path) -> None:
    listing = {"apiVersion": "v1", "kind": "List", "items": [{"kind": "Pod"}, {"kind": "Service"}]}
    first = write(tmp_path, f"{yaml.safe_dump(listing)}---\nkind: Nothing\n", "first.yaml")
    second = write(tmp_path, good().replace("blue", "Blue"), "second.yaml")
    with pytest.raises(InvalidManifest) as caught:
        read_manifests([first, second])
    places = [f"{first}, document 1, item 1", f"{first}, document 1, item 2", f"{first}, document 2", second]
    assert all(f"{place}: " in str(caught.value) for place in places)
    assert f"{second}: spec.versions[0].name" in str(caught.value)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(candidate=valid_documents(), form=st.sampled_from(["yaml", "json"]))
def test_get_apply_get_is_the_identity(tmp_path: Path, candidate: dict[str, Any], form: str) -> None:
    candidate = resolve_paths(candidate, tmp_path)
    shown = {**to_document(parse(candidate)), "status": {"ready": True}}
    for value in (shown, {"value": [shown]}, {"apiVersion": "v1", "kind": "List", "items": [shown]}):
        text = as_json(value) if form == "json" else as_yaml(value)
        (manifest,) = read_manifests([write(tmp_path, text, f"got.{form}")])
        assert {**to_document(parse(manifest.document)), "status": {"ready": True}} == shown


def test_json_is_read_too(tmp_path: Path) -> None:
    yaml_manifest = read_manifests([write(tmp_path, good())])[0]
    file = write(tmp_path, json.dumps(yaml_manifest.document), "endpoint.json")
    assert read_manifests([file])[0].document == yaml_manifest.document


def test_a_dash_is_standard_input_with_paths_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(good().encode())))
    (manifest,) = read_manifests(["-"])
    assert manifest.document["spec"]["versions"][0]["replica"]["modelDir"] == str(tmp_path / "models")
    assert manifest.source == "standard input"


def test_a_date_stays_the_text_it_is(tmp_path: Path) -> None:
    file = write(tmp_path, good() + "  description: 2024-02-30\n")
    assert read_manifests([file])[0].document["spec"]["description"] == "2024-02-30"


def test_merged_defaults_may_be_overridden(tmp_path: Path) -> None:
    text = """\
apiVersion: scorefront.io/v1alpha1
kind: ScoringEndpoint
metadata: {name: iris}
spec:
  versions:
  - &blue
    name: blue
    replica: {entryScript: score.py}
  - <<: *blue
    name: green
"""
    versions = read_manifests([write(tmp_path, text)])[0].document["spec"]["versions"]
    assert [version["name"] for version in versions] == ["blue", "green"]


@pytest.mark.parametrize("texts", [[good(), good()], [f"{good()}---\n{good()}"]])
def test_two_documents_of_one_name_are_refused(tmp_path: Path, texts: list[str]) -> None:
    files = [write(tmp_path, text, f"{index}.yaml") for index, text in enumerate(texts)]
    with pytest.raises(InvalidManifest) as caught:
        read_manifests(files)
    assert caught.value.faults[0].path == "metadata.name"
    assert "twice" in caught.value.faults[0].rule
    assert files[0] in caught.value.faults[0].rule


def test_broken_rules_are_reported_with_the_name_of_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, good().replace("entryScript", "entryskript"))
    with pytest.raises(InvalidManifest) as caught:
        read_manifests([file])
    assert caught.value.subject == file


def test_broken_rules_are_reported_with_the_number_of_the_document(tmp_path: Path) -> None:
    file = write(tmp_path, f"{good()}---\n" + good("other").replace("entryScript", "entryskript"))
    with pytest.raises(InvalidManifest) as caught:
        read_manifests([file])
    assert caught.value.subject == f"{file}, document 2"


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="no such file"):
        read_manifests([str(tmp_path / "absent.yaml")])


def test_a_folder_is_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="is a folder"):
        read_manifests([str(tmp_path)])


@pytest.mark.parametrize("text", ["", "\n\n", "---\n---\n", "# only a remark\n"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, text: str) -> None:
    assert "is empty" in refusal(tmp_path, text)


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    told = refusal(tmp_path, good().replace("kind:", "kind: ScoringEndpoint\nkind:"))
    assert ", line 3: " in told
    assert "'kind' stands twice" in told


def test_a_repeated_key_in_json_is_refused(tmp_path: Path) -> None:
    assert "'kind' stands twice" in refusal(tmp_path, '{"kind": 1, "kind": 2}', "endpoint.json")


def test_invalid_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    assert ", line 2: is not valid YAML" in refusal(tmp_path, "a: 1\nb: ]\n")


def test_invalid_json_is_refused_with_its_line(tmp_path: Path) -> None:
    assert ", line 2: is not JSON" in refusal(tmp_path, '{"a": 1,\n b}', "endpoint.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_json_numbers_are_those_of_json(tmp_path: Path, constant: str) -> None:
    assert f"{constant} is not a JSON number" in refusal(tmp_path, f'{{"a": {constant}}}', "endpoint.json")


def test_binary_is_refused_with_its_line(tmp_path: Path) -> None:
    assert ", line 2: is not text in UTF-8" in refusal(tmp_path, b"a: 1\n\xff\xfe\x00")


def test_control_characters_are_refused(tmp_path: Path) -> None:
    assert "is not valid YAML" in refusal(tmp_path, "a: \x00\n")


def test_a_file_over_the_limit_is_refused(tmp_path: Path) -> None:
    assert "larger than" in refusal(tmp_path, "#" * (MAX_FILE_BYTES + 1))


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    levels = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    assert "stands for more than" in refusal(tmp_path, "\n".join(["a0: &a0 [x]", *levels]))


def test_a_bomb_of_merges_is_refused(tmp_path: Path) -> None:
    levels = [f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}" for level in range(1, 12)]
    assert "stands for more than" in refusal(tmp_path, "\n".join(["a0: &a0 {x: 1}", *levels]))


def test_an_alias_that_contains_itself_is_refused(tmp_path: Path) -> None:
    assert "contains itself" in refusal(tmp_path, "a: &a [*a]\n")


@pytest.mark.parametrize(("name", "text"), [("deep.yaml", "[" * 50_000), ("deep.json", "[" * 200_000)])
def test_depth_without_end_is_refused(tmp_path: Path, name: str, text: str) -> None:
    assert refusal(tmp_path, text, name)


@pytest.mark.parametrize("text", ["a: !!python/object:os.system x\n", "? [1]\n: 2\n", "a: 0x" + "f" * 9, "- b\n a: 1"])
def test_odd_yaml_never_ends_in_anything_but_a_refusal(tmp_path: Path, text: str) -> None:
    with pytest.raises((UnreadableFile, InvalidManifest)):
        read_manifests([write(tmp_path, text)])


def test_an_integer_of_ten_thousand_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises((UnreadableFile, InvalidManifest)):
        read_manifests([write(tmp_path, "a: " + "9" * 10_000)])
