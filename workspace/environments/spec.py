"""The definition of an environment, and its key. Pure.

Read from the JSON of Azure ML v1, a conda YAML or a requirements file by `workspace.environments.definitions`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

KEY_FORMAT = 1
"""Counted up when equal definitions make other environments than before."""


@dataclass(frozen=True, slots=True)
class DockerSection:
    """The image below the packages; without effect on one machine."""

    base_image: str = ""
    dockerfile: str = ""
    """Steps, or the whole file."""


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """The definition of an environment: packages, Python, variables. Its lines are canonical."""

    name: str = ""
    version: str = ""
    python: str = ""
    """Release, e.g. 3.9 or 3.9.18; "": any."""
    conda: tuple[str, ...] = ()
    """Packages of the conda section in conda's notation, without Python; sorted."""
    channels: tuple[str, ...] = ()
    """Of conda, in order of priority."""
    pip: tuple[str, ...] = ()
    """Requirements and options of pip; sorted, but options as given."""
    variables: Mapping[str, str] = field(default_factory=dict)
    docker: DockerSection = DockerSection()
    user_managed: bool = False
    """True: the packages are there already, in `interpreter` or in the image."""
    interpreter: str = ""
    """Path of a user-managed Python."""

    @property
    def key(self) -> str:
        """Digest of all that changes the installed packages: not of name, version and variables."""
        content = {
            "format": KEY_FORMAT,
            "python": self.python,
            "conda": self.conda,
            "channels": self.channels,
            "pip": self.pip,
            "docker": [self.docker.base_image, self.docker.dockerfile],
            "interpreter": self.interpreter if self.user_managed else "",
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def label(self) -> str:
        """Name and version for people; else the beginning of the key."""
        return ":".join(filter(None, (self.name, self.version))) or self.key[:12]

    def named(self, name: str, version: str) -> "EnvironmentSpec":
        """The same definition under another name."""
        return replace(self, name=name, version=version)
