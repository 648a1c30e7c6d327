"""Asynchronous iterators that are known to be generators."""

from collections.abc import AsyncGenerator, AsyncIterator


async def closed(iterator: AsyncIterator[object]) -> None:
    """Close a generator that its function declares as an iterator."""
    assert isinstance(iterator, AsyncGenerator)
    await iterator.aclose()
