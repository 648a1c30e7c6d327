"""The data plane: one worker process routes scoring requests to replicas and never lets a replica exceed its slots.

`router.core` decides, `router.proxy` speaks HTTP, `router.worker` composes them. This package must never decide how
many replicas there are, start or stop one, or hold a secret: it knows digests of keys and public keys only.
"""
