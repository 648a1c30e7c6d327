"""Packages of an environment, as in a conda environment file."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml

from scorefront.sdk.exceptions import UserErrorException

NAME = "project_environment"
DEFAULT_FILE = "conda_dependencies.yml"
_PACKAGE = re.compile(r"^(?:[\w.-]+::)?([\w.-]+)")
_INDEX = ("--index-url", "-i ")


class CondaDependencies:
    """Conda and pip packages, channels and the version of Python."""

    def __init__(self, conda_dependencies_file_path: str | Path | None = None) -> None:
        """The content of a conda environment file.

        conda_dependencies_file_path: YAML; default: no packages. Raises UserErrorException.
        """
        self._content: dict[str, Any] = {"name": NAME, "dependencies": []}
        if conda_dependencies_file_path is not None:
            self._content = _read(Path(conda_dependencies_file_path))

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: list[str] | None = None,
        conda_packages: list[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> "CondaDependencies":
        """Dependencies of lists of packages.

        pip_indexurl: index of the pip packages; default: that of the machine.
        pip_packages, conda_packages: requirements, e.g. `scikit-learn==1.5.2`; default: none.
        python_version: X.Y; default: that of scorefront.
        pin_sdk_version: without effect, since scorefront stands in for azureml-defaults.
        """
        made = CondaDependencies()
        if python_version is not None:
            made.set_python_version(python_version)
        for package in conda_packages or ():
            made.add_conda_package(package)
        for package in pip_packages or ():
            made.add_pip_package(package)
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        return made

    @property
    def conda_packages(self) -> list[str]:
        """Packages of the conda section, Python included."""
        return [each for each in self._content["dependencies"] if isinstance(each, str)]

    @property
    def pip_packages(self) -> list[str]:
        """Packages of the pip section, without options."""
        return [each for each in self._pip() if not each.startswith("-")]

    @property
    def pip_options(self) -> list[str]:
        """Options of the pip section, e.g. `--index-url URL`."""
        return [each for each in self._pip() if each.startswith("-")]

    @property
    def conda_channels(self) -> list[str]:
        """Channels; ignored on a laptop, since packages come from PyPI."""
        return list(self._content.get("channels") or ())

    def add_conda_package(self, conda_package: str) -> None:
        """Add a package, in place of an entry of the same name."""
        self.remove_conda_package(_name(conda_package))
        packages = self._content["dependencies"]
        place = next((at for at, each in enumerate(packages) if isinstance(each, dict)), len(packages))
        packages.insert(place, conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove the package of that name, if it is there."""
        name = _name(conda_package)
        self._content["dependencies"] = [
            each for each in self._content["dependencies"] if not (isinstance(each, str) and _name(each) == name)
        ]

    def add_pip_package(self, pip_package: str) -> None:
        """Add a package, in place of an entry of the same name."""
        self._set_pip([*(each for each in self._pip() if not _is(each, pip_package)), pip_package])

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove the package of that name, if it is there."""
        self._set_pip([each for each in self._pip() if not _is(each, pip_package)])

    def add_channel(self, channel: str) -> None:
        """Add a channel."""
        self._content["channels"] = [*(each for each in self.conda_channels if each != channel), channel]

    def remove_channel(self, channel: str) -> None:
        """Remove a channel, if it is there."""
        self._content["channels"] = [each for each in self.conda_channels if each != channel]

    def set_python_version(self, version: str) -> None:
        """Set the version of Python, X.Y or X.Y.Z."""
        self.add_conda_package(f"python={version}")

    def get_python_version(self) -> str | None:
        """The version of Python; None: not set."""
        found = next((each for each in self.conda_packages if _name(each) == "python"), None)
        return None if found is None else found.partition("=")[2].lstrip("=") or None

    def set_pip_option(self, pip_option: str) -> None:
        """Add an option of the pip section, e.g. `--extra-index-url URL`."""
        self._set_pip([pip_option, *(each for each in self._pip() if each != pip_option)])

    def remove_pip_option(self, pip_option: str) -> None:
        """Remove an option of the pip section by its beginning."""
        self._set_pip([each for each in self._pip() if not each.startswith(pip_option)])

    def set_pip_index_url(self, index_url: str) -> None:
        """Set the index of the pip packages."""
        for start in _INDEX:
            self.remove_pip_option(start)
        self.set_pip_option(f"--index-url {index_url}")

    def set_pip_requirements(self, pip_requirements: list[str]) -> None:
        """Replace the pip section."""
        self._set_pip(list(pip_requirements))

    def as_dict(self) -> dict[str, Any]:
        """The content of the conda environment file."""
        return copy.deepcopy(self._content)

    def serialize_to_string(self) -> str:
        """The conda environment file."""
        return str(yaml.safe_dump(self._content, sort_keys=False))

    def save_to_file(self, base_directory: str | Path, conda_file_path: str | None = None) -> str:
        """Write the conda environment file; its name.

        base_directory: folder. conda_file_path: name in it; default: conda_dependencies.yml.
        """
        name = conda_file_path or DEFAULT_FILE
        (Path(base_directory) / name).write_text(self.serialize_to_string())
        return name

    def save(self, path: str | Path | None = None) -> str:
        """Write the conda environment file; its path. `path`: default: conda_dependencies.yml."""
        file = Path(path or DEFAULT_FILE)
        file.write_text(self.serialize_to_string())
        return str(file)

    def _pip(self) -> list[str]:
        found = next((each["pip"] for each in self._content["dependencies"] if isinstance(each, dict)), None)
        return list(found or ())

    def _set_pip(self, entries: list[str]) -> None:
        others = [each for each in self._content["dependencies"] if isinstance(each, str)]
        self._content["dependencies"] = [*others, {"pip": entries}] if entries else others


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not YAML in UTF-8"
        raise UserErrorException(f"conda file {file}: {reason}") from None
    packages = content.get("dependencies", []) if isinstance(content, dict) else None
    if not isinstance(packages, list) or not all(
        isinstance(each, str) or (isinstance(each, dict) and isinstance(each.get("pip"), list)) for each in packages
    ):
        raise UserErrorException(f"conda file {file}: dependencies must be a list of packages and one pip section")
    return {**content, "dependencies": packages}


def _name(package: str) -> str:
    """The name in a requirement, as it is compared."""
    found = _PACKAGE.match(package.strip())
    return re.sub(r"[-_.]+", "-", found[1]).lower() if found else package


def _is(entry: str, package: str) -> bool:
    return not entry.startswith("-") and _name(entry) == _name(package)
