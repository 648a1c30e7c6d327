"""Progress of uploads and downloads: a bar on a terminal, nothing elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar

SHOWN_FROM_BYTES = 10 * 1024 * 1024
"""Smaller transfers take no time to speak of."""


@contextmanager
def shown_transfer(verb: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the bytes of each part. `verb`: e.g. sending. `size_bytes`: of the whole."""
    out = Console(file=sys.stderr)
    if size_bytes < SHOWN_FROM_BYTES or not out.is_terminal:
        yield lambda count: None
        return
    with Bar(console=out, transient=True) as bar:
        task = bar.add_task(verb, total=size_bytes)
        yield lambda count: bar.advance(task, count)
