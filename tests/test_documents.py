"""The documents name only files, folders and modules that there are."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("serving", "autoscaler", "cluster", "router", "controlplane", "scorefront")
FOLDERS = (*PACKAGES, "tests", "loadtests", "docs", "deploy", "examples")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md"), *(ROOT / "examples").glob("**/*.md")])

NAMED_FILE = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")
NAMED_MODULE = re.compile(rf"`((?:{'|'.join(PACKAGES)})(?:\.[a-z_]+)+)`")
SPAN_ATTRIBUTE = re.compile(r"scorefront\.(endpoint|version|replica|\w+_(code|ms|id|type))")
"""An attribute of a span (`telemetry.otel_signals`), which looks like a module."""
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def missing(text: str, beside: Path) -> list[str]:
    """Names in `text`, a document of the folder `beside`, without a target."""
    files = [name for name in NAMED_FILE.findall(text) if not (ROOT / name).exists()]
    links = [name for name in LINK.findall(text) if not (beside / name).exists()]
    named = [name for name in NAMED_MODULE.findall(text) if not SPAN_ATTRIBUTE.fullmatch(name)]
    modules = [name for name in named if not is_module(name) and name != "cluster.yaml"]
    return files + links + modules


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_document_names_only_existing_files(document: Path) -> None:
    assert missing(document.read_text(), document.parent) == []


@pytest.mark.parametrize(
    "text",
    ["see `router/gone.py`", "see `controlplane.gone`", "see [there](gone.md#part)", "see `tests/gone`"],
)
def test_a_missing_file_is_found(text: str) -> None:
    assert missing(text, ROOT)


def test_an_existing_file_is_accepted() -> None:
    text = (
        "`router/core`, `router.core.ledger`, `tests/test_documents.py`, [home](README.md#part), [a](https://a.b/c.md)"
    )
    assert missing(text, ROOT) == []
