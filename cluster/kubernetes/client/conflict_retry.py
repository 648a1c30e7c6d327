"""Read-modify-write of an API object, repeated after a conflict."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from cluster.kubernetes.client.api_errors import WriteConflict

ATTEMPTS = 5

State = TypeVar("State")
Result = TypeVar("Result")


async def update(
    state: State,
    write: Callable[[State], Awaitable[Result]],
    reread: Callable[[], Awaitable[State]],
    exhausted: Exception,
) -> Result:
    """Call `write`; after a WriteConflict read the object again and repeat, ATTEMPTS times in all.

    `state`: the object as last known. `write`: changes it with its resourceVersion as precondition, or returns if
    there is nothing to change. `reread`: the object as it is now. `exhausted`: raised after the last conflict.
    Raises the other errors of `write` and `reread`.
    """
    for _ in range(ATTEMPTS):
        try:
            return await write(state)
        except WriteConflict:
            state = await reread()
    raise exhausted
