"""Collected payloads: their copies in the workers, their records, their files in the store.

It must never import the router, and never wait on the path of a request.
"""
