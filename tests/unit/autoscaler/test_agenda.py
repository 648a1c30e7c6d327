"""What is due when."""

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
def test_what_is_taken_is_what_is_due_longest(actions):
    agenda, due = DueTimes(), {}
    for action, key, at_s in actions:
        if action == "set":
            agenda.set(key, at_s)
            due[key] = at_s
        elif action == "drop":
            agenda.drop(key)
            due.pop(key, None)
        else:
            taken = agenda.take(at_s)
            assert (taken is None) == (min(due.values(), default=math.inf) > at_s)
            if taken is not None:
                assert due.pop(taken) <= min(due.values(), default=math.inf)
        assert agenda.next_s() == min(due.values(), default=math.inf)
        assert [key in agenda for key in KEYS] == [key in due for key in KEYS]
