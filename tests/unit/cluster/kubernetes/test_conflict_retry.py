import pytest

from cluster.kubernetes.client.api_errors import ApiUnreachable, WriteConflict
from cluster.kubernetes.client.conflict_retry import ATTEMPTS, update


class Versioned:
    """An object with a version changed by others a few times during a write."""

    def __init__(self, changes: int) -> None:
        self.version = 0
        self.attempts = 0
        self._changes = changes

    async def read(self) -> int:
        return self.version

    async def write(self, known: int) -> str:
        self.attempts += 1
        if self._changes:
            self._changes -= 1
            self.version += 1
        if known != self.version:
            raise WriteConflict("409", 409)
        return f"written at {known}"


async def test_a_conflicting_write_is_repeated_on_the_object_as_it_is_then() -> None:
    object_ = Versioned(changes=2)
    assert await update(0, object_.write, object_.read, ValueError()) == "written at 2"
    assert object_.attempts == 3


async def test_endless_conflicts_end_in_the_given_error() -> None:
    object_ = Versioned(changes=100)
    with pytest.raises(ValueError, match="busy"):
        await update(0, object_.write, object_.read, ValueError("busy"))
    assert object_.attempts == ATTEMPTS


async def test_other_errors_are_not_repeated() -> None:
    async def write(_: int) -> None:
        raise ApiUnreachable("away")

    with pytest.raises(ApiUnreachable):
        await update(0, write, Versioned(0).read, ValueError())
