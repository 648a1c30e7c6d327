"""Failures found by the simulation."""


class PromiseBroken(AssertionError):
    """A broken promise of the protocol; the text has the promise and its numbers."""
