"""The store of the workspace: immutable blobs by SHA-256 and small JSON records. Never a cache, never a lock."""
