import pytest

from cluster.kubernetes.fence import Fence, Fenced


def workload(fence):
    annotations = {} if fence is None else {"scorefront.io/fence": fence}
    return {"metadata": {"namespace": "a", "name": "iris-blue", "annotations": annotations}}


async def test_who_meets_a_higher_number_never_writes_again():
    fence = Fence(3)
    with pytest.raises(Fenced, match="carries fence 4, ours is 3"):
        fence.admit(workload("4"))
    assert fence.broken.is_set()
    with pytest.raises(Fenced):
        fence.admit(workload("1"))


@pytest.mark.parametrize("other", [None, "", "nonsense", "-7", "2", "3"])
async def test_who_meets_a_lower_number_or_none_may_write(other):
    fence = Fence(3)
    fence.admit(workload(other))
    assert fence.is_on(workload("3")) and not fence.is_on(workload("2"))


async def test_who_has_lost_the_lease_without_noticing_does_not_write():
    holds = [True]
    fence = Fence(3, lambda: holds[0])
    fence.check()
    holds[0] = False
    with pytest.raises(Fenced):
        fence.check()
    assert fence.broken.is_set()
