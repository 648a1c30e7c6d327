from collections.abc import Callable
from typing import Any

import pytest

from cluster.kubernetes.client.api_errors import ApiError, ApiUnreachable
from cluster.kubernetes.fence import HIGHEST, Fence, Fenced, FenceMark, mark_in
from cluster.kubernetes.ownership import NotWritable
from cluster.provider import ProviderError


class LeaseInHand:
    """A leadership with scripted values."""

    lease_uid = "lease-1"

    def __init__(self) -> None:
        self.holds = True
        self.answer: Callable[[], bool] = lambda: True
        self.asked = 0

    def leads(self) -> bool:
        return self.holds

    async def confirmed(self) -> bool:
        self.asked += 1
        return self.answer()


def workload(fence: str | None) -> dict[str, Any]:
    annotations = {} if fence is None else {"scorefront.io/fence": fence}
    return {"metadata": {"namespace": "a", "name": "iris-blue", "annotations": annotations}}


@pytest.mark.parametrize("other", ["lease-1/4", "lease-2/1", "4", "nonsense"])
async def test_a_leader_that_the_lease_does_not_name_any_more_never_writes_again(other: str) -> None:
    lease = LeaseInHand()
    lease.answer = lambda: False
    fence = Fence(3, lease)
    with pytest.raises(Fenced, match="does not name lease-1/3 any more"):
        await fence.admit(workload(other))
    assert fence.broken.is_set()
    with pytest.raises(Fenced):
        await fence.admit(workload("lease-1/1"))


@pytest.mark.parametrize("other", [None, "", "lease-1/2", "lease-1/3"])
async def test_an_object_without_fence_or_with_one_up_to_ours_is_written_unasked(other: str | None) -> None:
    lease = LeaseInHand()
    await Fence(3, lease).admit(workload(other))
    assert lease.asked == 0


@pytest.mark.parametrize("other", ["lease-2/9", "9", "-7", "nonsense", "lease-1/0", "lease-1/-4", f"lease-1/{2**31}"])
async def test_a_fence_of_another_lease_or_no_valid_one_means_nothing_while_the_lease_names_us(other: str) -> None:
    lease = LeaseInHand()
    fence = Fence(3, lease)
    await fence.admit(workload(other))
    assert lease.asked == 1 and not fence.broken.is_set()


async def test_a_higher_number_that_the_lease_contradicts_is_forged_and_ends_no_leader() -> None:
    fence = Fence(3, LeaseInHand())
    with pytest.raises(NotWritable, match="a/iris-blue carries fence lease-1/4, but lease-1/3 leads") as refusal:
        await fence.admit(workload("lease-1/4"))
    assert refusal.value.reason == "FenceForged" and not fence.broken.is_set()
    fence.check()


async def test_while_the_lease_cannot_be_read_nothing_is_written_and_no_leader_ends() -> None:
    lease = LeaseInHand()

    def away() -> bool:
        raise ApiUnreachable("connection refused")

    lease.answer = away
    fence = Fence(3, lease)
    with pytest.raises(ProviderError, match="the Lease cannot be read") as refusal:
        await fence.admit(workload("lease-1/4"))
    assert not isinstance(refusal.value, Fenced) and isinstance(refusal.value.__cause__, ApiError)
    assert not fence.broken.is_set()


async def test_a_leader_that_has_lost_the_lease_without_noticing_does_not_write() -> None:
    lease = LeaseInHand()
    fence = Fence(3, lease)
    fence.check()
    lease.holds = False
    with pytest.raises(Fenced):
        fence.check()
    assert fence.broken.is_set()


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("lease-1/3", FenceMark("lease-1", 3)),
        (f"lease-1/{HIGHEST}", FenceMark("lease-1", HIGHEST)),
        (f"lease-1/{HIGHEST + 1}", None),
        (f"lease-1/{'9' * 5000}", None),
        ("lease-1/03", None),
        ("lease-1/0", None),
        ("lease-1/-3", None),
        ("lease-1/3.0", None),
        ("lease-1/٣", None),
        ("lease-1/3 ", None),
        ("lease-1/3\n", None),
        ("/3", None),
        ("3", None),
        ("a/b/3", None),
    ],
)
def test_a_mark_is_the_uid_of_a_lease_and_a_number_that_a_lease_can_hold(text: str, mark: FenceMark | None) -> None:
    assert mark_in(text) == mark
    assert mark is None or str(mark) == text
