"""Order of due times."""

import math

from hypothesis import given
from hypothesis import strategies as st

from autoscaler.due_times import DueTimes
from serving.endpoint import VersionKey

KEYS = [VersionKey("iris", name) for name in "abcd"]
ACTIONS = st.lists(
    st.tuples(st.sampled_from(["set", "drop", "take"]), st.sampled_from(KEYS), st.integers(0, 5).map(float)),
    max_size=60,
)


@given(ACTIONS)
def test_the_longest_due_key_is_returned(actions: list[tuple[str, VersionKey, float]]) -> None:
    due_times, due = DueTimes(), {}
    for action, key, at_s in actions:
        if action == "set":
            due_times.set(key, at_s)
            due[key] = at_s
        elif action == "drop":
            due_times.drop(key)
            due.pop(key, None)
        else:
            popped = due_times.pop(at_s)
            assert (popped is None) == (min(due.values(), default=math.inf) > at_s)
            if popped is not None:
                assert due.pop(popped) <= min(due.values(), default=math.inf)
        assert due_times.next_s() == min(due.values(), default=math.inf)
        assert [key in due_times for key in KEYS] == [key in due for key in KEYS]
