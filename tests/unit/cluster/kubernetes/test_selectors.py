"""Label selectors, as `kubectl` and the API write them."""

import pytest

from cluster.kubernetes.client.selectors import SelectorError, parsed

LABELS = {"app": "iris", "tier": "gold", "empty": ""}


@pytest.mark.parametrize(
    "text",
    [
        *("app=iris", "app==iris", "app", "!canary", "tier!=silver", "canary!=x", "empty="),
        *("app in (iris)", "app in (a, iris ,b)", "tier notin (a,b)", "missing notin (a)", "app=iris,tier=gold"),
        *(" app = iris , tier in (gold,silver) ,!canary", "app=iris,"),
    ],
)
def test_matching_selectors(text: str) -> None:
    assert parsed(text).fits(LABELS)


@pytest.mark.parametrize(
    "text",
    [
        *("app=rose", "app=", "canary", "!app", "tier!=gold", "app in (a,b)", "tier notin (gold)"),
        *("app=iris,tier=silver", "missing=", "", "app in ()"),
    ],
)
def test_selectors_that_do_not_match(text: str) -> None:
    assert not parsed(text).fits(LABELS)


@pytest.mark.parametrize("text", ["=x", "app=a=b", "app in iris", "app in (iris", "a b", "!app=x", ",", "app,,tier"])
def test_invalid_selectors(text: str) -> None:
    with pytest.raises(SelectorError):
        parsed(text)


def test_a_selector_is_found_by_a_label_that_must_have_one_value() -> None:
    assert parsed("!canary,tier in (gold),app in (a,b)").pair == ("tier", "gold")
    assert parsed("app in (a,b),tier!=x,x").pair is None
