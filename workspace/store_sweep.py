"""Removal of content of a local store that nothing refers to any more. Blocking; runs at the start of `up`.

An object store is left alone: its objects do not tell if a deployment uses them.
"""

import logging
from collections.abc import Set

from workspace.artifacts import ArtifactRegistry
from workspace.store.file_store import FileStore

KEPT_S = 7 * 24 * 3600.0
"""Age below which nothing is removed: an upload may not have its model or deployment yet."""

_log = logging.getLogger(__name__)


def sweep_store(
    store: FileStore, artifacts: ArtifactRegistry, model_blobs: Set[str], model_assets: Set[str], now: float
) -> int:
    """Remove old v1 artifacts and assets of no model, then the blobs of no model, artifact or deployment.

    store: local, else nothing is removed.
    artifacts: of the store.
    model_blobs: digests of the files of all models.
    model_assets: ids of the assets that models came from.
    now: unix seconds.
    Returns the number of removed blobs. Raises StoreError.
    """
    before = now - KEPT_S
    candidates = store.unlinked_blobs(before)
    if not candidates:
        return 0
    artifacts.expire(model_assets, before)
    unused = sorted(candidates - model_blobs - artifacts.blobs_in_use())
    for sha256 in unused:
        store.delete_blob(sha256)
    if unused:
        _log.info("store: removed %d blobs that no model and no deployment uses", len(unused))
    return len(unused)
