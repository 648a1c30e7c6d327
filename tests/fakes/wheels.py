"""Tiny wheels in a folder, for builds of environments without an index."""

import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make_wheel(folder: Path, name: str, version: str = "1.0", requires: tuple[str, ...] = (), code: str = "") -> Path:
    """Write a wheel with one module.

    folder: for it. name: of the package and, with underscores, of the module. version: of it.
    requires: requirements. code: of the module.
    """
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in requires)
    files = {
        f"{module}.py": code or f"version = {version!r}\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in files) + f"{info}/RECORD,,\n"
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


def make_installed_wheels(folder: Path, name: str) -> None:
    """Write wheels of an installed package and of all that it requires here.

    folder: for them. name: of the package.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: set[str] = set()
    pending = [name]
    while pending:
        package = canonicalize_name(pending.pop())
        if package in made:
            continue
        made.add(package)
        try:
            found = distribution(package)
        except PackageNotFoundError:  # required on other systems only
            continue
        pending += [
            requirement.name
            for requirement in map(Requirement, found.requires or ())
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
        wheel = (found.read_text("WHEEL") or "").splitlines()
        tags = [line.removeprefix("Tag: ").split("-") for line in wheel if line.startswith("Tag: ")]
        tag = "-".join(".".join(sorted(set(parts))) for parts in zip(*tags, strict=True))
        with zipfile.ZipFile(folder / f"{package.replace('-', '_')}-{found.version}-{tag}.whl", "w") as archive:
            for file in found.files or ():
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    archive.write(str(found.locate_file(file)), str(file))
