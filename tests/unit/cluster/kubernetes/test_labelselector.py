from typing import Any

import pytest

from cluster.kubernetes.client.labelselector import written
from cluster.kubernetes.client.selectors import parsed

SELECTORS = {
    "app=iris,tier=gold": {"matchLabels": {"tier": "gold", "app": "iris"}},
    "tier in (gold,silver)": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["silver", "gold"]}]},
    "tier notin (lead)": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["lead"]}]},
    "app=iris,!canary": {
        "matchLabels": {"app": "iris"},
        "matchExpressions": [{"key": "canary", "operator": "DoesNotExist"}],
    },
    "app": {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
    "": {},
}


@pytest.mark.parametrize(("text", "selector"), SELECTORS.items(), ids=SELECTORS)
def test_a_selector_is_written_as_a_query_takes_it_and_reads_back(text: str, selector: dict[str, Any]) -> None:
    assert written(selector) == text
    parsed(text)


def test_an_unknown_operator_selects_nothing() -> None:
    strange = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}
    assert not parsed(written(strange)).fits({"app": "x", "a": "b"})
