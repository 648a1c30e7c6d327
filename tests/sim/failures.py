"""What the simulation finds."""


class PromiseBroken(AssertionError):
    """A promise of the protocol does not hold. The text says which, with the numbers."""
