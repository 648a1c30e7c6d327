"""Rules for the URL of a store. Pure."""

from typing import Final

EXTRAS: Final = {"s3": "s3", "s3a": "s3", "abfs": "azure", "abfss": "azure", "az": "azure", "gs": "gcs", "gcs": "gcs"}
"""URL scheme -> extra of the package with its driver."""
MEMORY: Final = "memory"


def store_url_fault(text: str) -> str | None:
    """The rule that the text of `--store` breaks; None: a folder, or the URL of a store."""
    scheme, separator, rest = text.partition("://")
    if not text or not text.isprintable():
        return "must be a folder or a URL"
    if not separator or scheme == MEMORY:
        return None
    if scheme == "file":
        return None if rest.startswith("/") else "must be file:///ABSOLUTE/PATH"
    if scheme not in EXTRAS:
        return "must be a folder or begin with file://, s3://, abfs://, gs://, memory://"
    return None if rest.strip("/") else f"must name a bucket or container, as in {scheme}://NAME/FOLDER"


def local_folder(url: str) -> str | None:
    """Path of the folder of a local store; None for another one."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    return rest if scheme == "file" else None
