"""Lock files of the images: subsets of requirements.lock, with the same versions and hashes.

    python deploy/image/lock.py

Run it in the environment of requirements.lock: the requirements are read from the metadata of its packages. The images
omit tests, tools and the packages needed only on one machine (the model server and the example's library).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TOP = Path(__file__).parent.parent.parent
IN_REPLICAS = ("serve", "examples")
"""Extras that run in replicas: on one machine children of scorefront, in a cluster pods with images of their own."""
IN_FRONT_END = ("k8s", "otel")
"""Extras of the front end's image."""
TARGET = {
    "python_version": "3.11",
    "python_full_version": "3.11.0",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
"""The environment of the images, for evaluating markers."""
HEAD = "# Written by deploy/image/lock.py; do not edit.\n"

Requires = Callable[[str], Iterable[str]]
"""Name of a distribution -> its requirements, in the spelling of its metadata."""


def blocks(lock: str) -> dict[str, str]:
    """Requirements of a lock file: name -> its lines, with hashes."""
    starts = [*re.finditer(r"^[A-Za-z0-9]", lock, re.MULTILINE)]
    ends = [start.start() for start in starts[1:]] + [len(lock)]
    texts = [lock[start.start() : end] for start, end in zip(starts, ends, strict=True)]
    texts = ["".join(line + "\n" for line in text.splitlines() if line and not line.startswith("#")) for text in texts]
    return {canonicalize_name(re.split("[=<>~!;@ ]", text, maxsplit=1)[0]): text for text in texts}


def closure(roots: Iterable[str], requires: Requires) -> set[str]:
    """Transitive closure of the requirements `roots`, as names, in the environment of the images."""
    found: set[str] = set()
    todo = [(Requirement(root), "") for root in roots]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({**TARGET, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo.extend((Requirement(text), wanted) for text in requires(name))
    return found


def subset(lock: str, names: Iterable[str]) -> str:
    """Lock file of `names`. Raises KeyError for a name that is not locked."""
    known = blocks(lock)
    return HEAD + "".join(known[name] for name in sorted(names))


def files(lock: str, project: Mapping[str, Any], build: Iterable[str], requires: Requires) -> dict[str, str]:
    """Path below the top -> content of each lock file.

    `lock`: text of requirements.lock. `project`: the table `project` of pyproject.toml. `build`: build requirements.
    """
    extras = project["optional-dependencies"]
    serving = [*project["dependencies"], *(text for name in IN_FRONT_END for text in extras[name])]
    replicas = [text for name in IN_REPLICAS for text in extras[name]]
    return {
        "deploy/image/build.lock": subset(lock, closure([*build, *extras["compile"]], requires)),
        "deploy/image/runtime.lock": subset(lock, closure(serving, requires)),
        "deploy/loadtest/load.lock": subset(lock, closure(["locust"], requires)),
        "examples/iris/requirements.lock": subset(lock, closure(replicas, requires)),
    }


def current() -> dict[str, str]:
    """Expected contents of the lock files."""
    document = tomllib.loads((TOP / "pyproject.toml").read_text())
    return files(
        (TOP / "requirements.lock").read_text(),
        document["project"],
        document["build-system"]["requires"],
        lambda name: metadata.requires(name) or (),
    )


if __name__ == "__main__":
    for path, text in current().items():
        (TOP / path).write_text(text)
        print(f"{path}: {text.count('==')} packages")
