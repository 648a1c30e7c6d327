"""The workspace: a scorefront that is reached by its control port."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scorefront.command_hints import DEFAULT_CONTROL_URL
from scorefront.http_client import UNIX, ServerTrust
from scorefront.sdk.compute import ComputeTarget
from scorefront.sdk.control_connection import ControlConnection
from scorefront.sdk.environment import Environment
from scorefront.sdk.exceptions import UserErrorException, WorkspaceException
from scorefront.sdk.model import Model
from scorefront.sdk.services import Webservice

CONFIG_FILES = (Path(".azureml/config.json"), Path("config.json"))
"""Searched by `Workspace.from_config`, in the folder and in those above it."""


class Workspace:
    """A scorefront: its models, environments and services."""

    def __init__(self, url: str, token: str | None = None, ca: str | Path | None = None) -> None:
        """Connect to a scorefront.

        url: of the control port, as `scorefront up` prints it: `http(s)://HOST:PORT`, or `unix:PATH`.
        token: the control token; default: the environment variable SCOREFRONT_TOKEN, else none.
        ca: PEM file with the authority of an https URL; default: the environment variable SCOREFRONT_CA, else those of
        the system.
        Raises UserErrorException for an invalid URL, WorkspaceException if no workspace answers.
        """
        authority = ca or os.environ.get("SCOREFRONT_CA")
        trust = ServerTrust("ca (or SCOREFRONT_CA)", Path(authority) if authority else None)
        self._connection = ControlConnection(_checked(url), token or os.environ.get("SCOREFRONT_TOKEN"), trust)
        self._names = self._connection.workspace

    @staticmethod
    def from_config(path: str | Path | None = None) -> "Workspace":
        """The workspace that a file or the environment names.

        path: JSON file with `url`, and perhaps `token`, or its folder; default: .azureml/config.json or config.json in
        this folder or above it, else the environment variable SCOREFRONT_URL, else http://127.0.0.1:8081.
        Raises UserErrorException, WorkspaceException.
        """
        file = _config_file(path)
        if file is None:
            return Workspace(os.environ.get("SCOREFRONT_URL") or DEFAULT_CONTROL_URL)
        try:
            content = json.loads(file.read_text())
            return Workspace(str(content["url"]), content.get("token"))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            rule = 'must be JSON with the URL of a scorefront: {"url": "http://127.0.0.1:8081"}'
            raise UserErrorException(f"{file}: {rule}") from None

    @property
    def connection(self) -> ControlConnection:
        """The control plane."""
        return self._connection

    @property
    def url(self) -> str:
        """URL of the control port."""
        return self.connection.url

    @property
    def name(self) -> str:
        """Name of the workspace."""
        return self._names["workspaceName"]

    @property
    def location(self) -> str:
        """Region of the workspace; there is one."""
        return self._names["location"]

    @property
    def subscription_id(self) -> str:
        """Id of the subscription; there is one."""
        return self._names["subscriptionId"]

    @property
    def resource_group(self) -> str:
        """Name of the resource group; there is one."""
        return self._names["resourceGroup"]

    @property
    def models(self) -> dict[str, Model]:
        """Name -> latest version of each model."""
        return {model.name: model for model in Model.list(self, latest=True)}

    @property
    def webservices(self) -> dict[str, Webservice]:
        """Name -> service or endpoint."""
        return {service.name: service for service in Webservice.list(self)}

    @property
    def environments(self) -> dict[str, Environment]:
        """Name -> latest version of each registered environment."""
        return Environment.list(self)

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """Name -> compute target."""
        return {target.name: target for target in ComputeTarget.list(self)}

    def get_details(self) -> dict[str, Any]:
        """Names and id of the workspace, and its URL."""
        return {**self._names, "url": self.url}

    def write_config(self, path: str | Path | None = None, file_name: str | None = None) -> None:
        """Write a file that `from_config` reads; without the token.

        path: folder; default: this one. file_name: default: config.json, in the folder .azureml.
        """
        folder = Path(path or ".") / ".azureml"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / (file_name or "config.json")).write_text(json.dumps({"url": self.url}, indent=2) + "\n")

    def __repr__(self) -> str:
        return f"Workspace({self.url!r})"


def _checked(url: str) -> str:
    if not isinstance(url, str):
        raise UserErrorException(f"url: must be text (got {url!r})")
    if url.startswith(UNIX) and len(url) > len(UNIX):
        return UNIX + os.path.abspath(url.removeprefix(UNIX))
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username or parts.path.strip("/"):
        raise UserErrorException(f"url: must be http(s)://HOST[:PORT] or unix:PATH of the control port (got {url!r})")
    return url.rstrip("/")


def _config_file(path: str | Path | None) -> Path | None:
    if path is not None:
        place = Path(path)
        if place.is_file():
            return place
        found = next((place / name for name in CONFIG_FILES if (place / name).is_file()), None)
        if found is None:
            raise WorkspaceException(f"path: {str(path)!r} must be a file, or a folder with .azureml/config.json")
        return found
    here = Path.cwd()
    return next(
        (each / name for each in (here, *here.parents) for name in CONFIG_FILES if (each / name).is_file()), None
    )
