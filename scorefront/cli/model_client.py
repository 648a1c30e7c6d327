"""Models over the REST API, for commands."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cluster.atomic_files import TEMPORARY_PREFIX
from scorefront.cli.client import API, ByteStream, ControlClient
from scorefront.cli.command_errors import CommandError
from scorefront.local_models import LocalModelFile

UPLOAD_TIMEOUT_S = 600.0
"""Longest silence: the control plane writes and checks a large file before it answers."""

Progress = Callable[[int], None]
"""Called with the number of bytes sent or received."""


@dataclass(frozen=True, slots=True)
class ModelClient:
    """Models of one control plane. Every method raises ControlUnreachable or ControlRefused."""

    control: ControlClient

    def upload(self, file: LocalModelFile, progress: Progress) -> dict[str, Any]:
        """Send a file unless its content is there; returns its entry for `register`. Raises OSError."""
        sha256 = file.sha256()
        path = f"{API}/blobs/{sha256}"
        if self._has(path):
            progress(file.size_bytes)
        else:
            body = ByteStream(file.pieces(progress), file.size_bytes)
            with self.control.response("PUT", path, body, timeout_s=UPLOAD_TIMEOUT_S):
                pass
        return {"path": file.path, "sha256": sha256}

    def register(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The registered model. `fields`: name, files, and others of the request."""
        return self.control.json_object("POST", f"{API}/models", fields)

    def models(self, name: str | None, tags: Sequence[str], latest: bool) -> list[dict[str, Any]]:
        """Models without their files.

        name: only of that name; None: all. tags: KEY or KEY=VALUE, all demanded. latest: the latest version of each.
        """
        query = {"name": name, "tag": list(tags), "latest": latest}
        return list(self.control.json_object("GET", f"{API}/models", **query)["value"])

    def model(self, name: str, version: int | None) -> dict[str, Any]:
        """A model with its files; `version` None: the latest."""
        return self.control.json_object("GET", _path(name, version))

    def delete(self, name: str, version: int) -> None:
        """Remove a model."""
        self.control.whole("DELETE", _path(name, version))

    def download(self, model: Mapping[str, Any], file: Mapping[str, Any], target: Path, progress: Progress) -> None:
        """Write one file of a model; nothing is left of a broken download.

        model, file: as `model` returns them. target: path to create or replace.
        progress: called with the bytes of each piece. Raises OSError, CommandError.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{TEMPORARY_PREFIX}{file['sha256'][:16]}")
        path = f"{_path(model['name'], model['version'])}/files/{quote(file['path'])}"
        digest = hashlib.sha256()
        try:
            with self.control.response("GET", path, timeout_s=UPLOAD_TIMEOUT_S) as response, part.open("wb") as output:
                for piece in response.iter_stream():
                    output.write(piece)
                    digest.update(piece)
                    progress(len(piece))
            if digest.hexdigest() != file["sha256"]:
                raise CommandError(f"{file['path']}: the content received has another SHA-256 than the model's file")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def _has(self, path: str) -> bool:
        with self.control.response("HEAD", path, accepted=(200, 404)) as response:
            return response.status == 200


def _path(name: str, version: int | None) -> str:
    return f"{API}/models/{quote(name, safe='')}/{version or 'latest'}"
