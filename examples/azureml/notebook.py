"""deploy.ipynb from deploy.py: run `python examples/azureml/notebook.py` after a change."""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
MARK = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def cells(script: str) -> list[tuple[str, str]]:
    """(kind, text) of each cell in the script: code or markdown."""
    pieces = MARK.split(script)[1:]
    found = []
    for mark, text in zip(pieces[::2], pieces[1::2], strict=True):
        if mark is None:
            found.append(("code", text.strip("\n")))
        else:
            found.append(("markdown", re.sub(r"^# ?", "", text.strip("\n"), flags=re.MULTILINE)))
    return found


def notebook(script: str) -> str:
    """The notebook of the script, as JSON."""
    content = []
    for number, (kind, text) in enumerate(cells(script)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(keepends=True)}
        content.append({**cell, "outputs": [], "execution_count": None} if kind == "code" else cell)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    document = {"cells": content, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (HERE / "deploy.ipynb").write_text(notebook((HERE / "deploy.py").read_text()))
