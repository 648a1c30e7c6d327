"""Errors of the workspace. Each class has its HTTP status and machine-readable code."""

from controlplane.control_errors import ConflictingChange, ControlError, InvalidCall, StoreError


class NoSuchBlob(ControlError):
    """The store has no blob of that digest."""

    status = 404
    code = "BlobNotFound"

    def __init__(self, sha256: str) -> None:
        super().__init__(f"there is no blob {sha256}; upload it first (PUT /api/v1/blobs/{sha256})")


class NoSuchModel(ControlError):
    """No model of that name and version is registered."""

    status = 404
    code = "ModelNotFound"

    def __init__(self, name: str, version: int | None = None) -> None:
        which = f"model '{name}'" if version is None else f"version {version} of model '{name}'"
        super().__init__(f"there is no {which}")


class NoSuchModelFile(ControlError):
    """The model has no file of that path."""

    status = 404
    code = "FileNotFound"


class NoSuchArtifact(ControlError):
    """No artifact of that id was uploaded."""

    status = 404
    code = "ArtifactNotFound"

    def __init__(self, identifier: str) -> None:
        super().__init__(f"there is no artifact '{identifier}'")


class NoSuchAsset(ControlError):
    """No asset of that id is registered."""

    status = 404
    code = "AssetNotFound"

    def __init__(self, identifier: str) -> None:
        super().__init__(f"there is no asset '{identifier}'")


class ModelInUse(ConflictingChange):
    """A declared version was deployed from the model."""

    code = "ModelInUse"


class InvalidModel(InvalidCall):
    """A field of a model breaks a rule; the text names the field, the value and the rule."""

    code = "InvalidModel"


class InvalidUpload(InvalidCall):
    """The uploaded bytes are not those that were announced."""

    code = "InvalidUpload"


class InvalidArchive(InvalidCall):
    """An archive has an entry that breaks a rule; the text names the entry and the rule."""

    code = "InvalidArchive"


class UploadTooLarge(ControlError):
    """More bytes than one blob may have."""

    status = 413
    code = "PayloadTooLarge"


class StoreFull(StoreError):
    """The disk has no room; nothing was changed."""

    status = 507
    code = "StoreFull"
