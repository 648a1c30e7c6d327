"""Ceilings for language and size: relative words in docstrings, doubled class names, lines of modules and classes.

Nouns can be searched for, relative clauses cannot: kopf has 0.55 relative words per 100 docstring words, httpcore 0.12.
A ceiling is lowered when the figure falls, never raised.
"""

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("serving", "autoscaler", "cluster", "router", "controlplane", "workspace", "telemetry", "scorefront")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
TREES = {str(file.relative_to(ROOT)): ast.parse(file.read_text()) for file in FILES}
TEST_FILES = sorted(file for folder in ("tests", "loadtests") for file in (ROOT / folder).rglob("*.py"))

RELATIVE = re.compile(r"\b(what|who|whom|whose|whoever|whatever|which|where|whether|how)\b", re.IGNORECASE)
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

NAMED_BY_OTHERS = "scorefront/sdk/"
"""Folder of classes with the names of azureml-core."""
MOST_RELATIVE_PER_100 = 0.5
MOST_RELATIVE_PER_100_IN_TESTS = 0.5
MOST_DOUBLED_CLASSES = 0
MOST_MODULE_LINES = 400
MOST_CLASS_LINES = 300
MOST_METHODS = 25
MOST_LARGE_MODULES = 0
MOST_LARGE_CLASSES = 2


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Every docstring of a module, its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED):
            yield ast.get_docstring(node) or ""


def comments(source: str) -> Iterator[str]:
    """Every comment of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return (token.string for token in tokens if token.type == tokenize.COMMENT)


def relative_per_100(texts: list[str]) -> float:
    """Relative words per 100 words."""
    words = sum(len(WORD.findall(text)) for text in texts)
    return 100 * sum(len(RELATIVE.findall(text)) for text in texts) / words if words else 0.0


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    """Every class of a module."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def methods(found: ast.ClassDef) -> int:
    """Number of methods, properties included."""
    return sum(isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) for each in found.body)


def doubled(names: list[str]) -> list[str]:
    """Names that occur more than once."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def lines(found: ast.ClassDef) -> int:
    """Lines from the first to the last one of a class."""
    return (found.end_lineno or found.lineno) - found.lineno + 1


def test_docstrings_use_nouns() -> None:
    assert relative_per_100([text for tree in TREES.values() for text in docstrings(tree)]) <= MOST_RELATIVE_PER_100


def test_docstrings_of_tests_and_load_tests_use_nouns() -> None:
    found = [text for file in TEST_FILES for text in docstrings(ast.parse(file.read_text()))]
    assert relative_per_100(found) <= MOST_RELATIVE_PER_100_IN_TESTS


def test_comments_of_tests_and_load_tests_use_nouns() -> None:
    found = [text for file in TEST_FILES for text in comments(file.read_text())]
    assert relative_per_100(found) <= MOST_RELATIVE_PER_100_IN_TESTS


def test_class_names_are_unique() -> None:
    trees = (tree for name, tree in TREES.items() if not name.startswith(NAMED_BY_OTHERS))
    found = doubled([each.name for tree in trees for each in classes(tree)])
    assert len(found) <= MOST_DOUBLED_CLASSES, found


def test_modules_are_small() -> None:
    found = [name for name in TREES if (ROOT / name).read_text().count("\n") > MOST_MODULE_LINES]
    assert len(found) <= MOST_LARGE_MODULES, found


def test_classes_are_small() -> None:
    found = [
        f"{name}: {each.name}"
        for name, tree in TREES.items()
        for each in classes(tree)
        if methods(each) > MOST_METHODS or lines(each) > MOST_CLASS_LINES
    ]
    assert len(found) <= MOST_LARGE_CLASSES, found


@pytest.mark.parametrize(("text", "per_100"), [("What it is.", 100 / 3), ("The slot of a replica.", 0.0), ("", 0.0)])
def test_relative_words_are_counted(text: str, per_100: float) -> None:
    assert relative_per_100([text]) == pytest.approx(per_100)


def test_doubled_names_are_found() -> None:
    assert doubled(["Group", "Lease", "Group"]) == ["Group"]


def test_methods_and_lines_of_a_class_are_counted() -> None:
    found = next(classes(ast.parse("class A:\n    x = 1\n    def f(self): ...\n    async def g(self): ...\n")))
    assert (methods(found), lines(found)) == (2, 4)


def test_comments_are_found() -> None:
    assert list(comments("x = 1  # one\ny = '# none'\n")) == ["# one"]
