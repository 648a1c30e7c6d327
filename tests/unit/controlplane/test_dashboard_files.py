"""The files of the dashboard: modules that are there, vendored files that are as published, texts that stay texts."""

import hashlib
import json
import re
from importlib import resources

import pytest

from controlplane.dashboard_pages import POLICY, dashboard_files

FOLDER = resources.files("controlplane.dashboard")
VENDORED = json.loads((FOLDER / "vendored.json").read_text())
FILES = dashboard_files()
OWN = {name: body.decode() for name, body in FILES.items() if name not in VENDORED["files"]}
MARKUP = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setHTML)")


@pytest.mark.parametrize("name", VENDORED["files"])
def test_a_vendored_file_is_as_published(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == VENDORED["files"][name]["sha256"]


def test_the_licence_and_version_of_the_vendored_library_are_kept() -> None:
    licence = (FOLDER / "uplot.LICENSE.txt").read_text()
    assert "The MIT License" in licence and "Leon Sorokin" in licence
    assert re.fullmatch(r"\d+\.\d+\.\d+", VENDORED["version"]) and VENDORED["integrity"].startswith("sha512-")


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_data_never_becomes_markup_or_code(name: str) -> None:
    assert MARKUP.search(FILES[name].decode()) is None


@pytest.mark.parametrize("name", OWN)
def test_nothing_comes_from_elsewhere_and_every_import_is_there(name: str) -> None:
    text = OWN[name]
    assert "https://" not in text and "http://" not in text.replace("http://www.w3.org/", "")
    assert set(re.findall(r"(?:from|import\() ?\"\./([\w.]+)\"", text)) <= FILES.keys()
    assert set(re.findall(r"\"/dashboard/([\w.]+)\"", text)) <= FILES.keys()


def test_the_page_has_no_inline_script_or_style() -> None:
    page = OWN["index.html"]
    assert re.findall(r"<script(?![^>]* src=)", page) == [] and " style=" not in page and "<style" not in page
    assert re.search(r"\son\w+=", page) is None
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY


def test_labels_name_controls_that_exist() -> None:
    texts = "\n".join(OWN.values())
    for target in re.findall(r"for: \"([\w-]+)\"", texts):
        assert f'id: "{target}"' in texts
