"""Rings of recent items."""

from serving.recent_rings import RecentRings


def test_each_key_keeps_its_newest_items() -> None:
    rings: RecentRings[str, int] = RecentRings(per_key=3, total=100)
    for number in range(10):
        rings.add("a", number)
    rings.add("b", 1)
    assert (rings.of("a"), rings.of("b"), rings.of("c"), len(rings)) == ([7, 8, 9], [1], [], 4)
    rings.forget("a")
    rings.forget("a")
    assert (dict(rings.items()), len(rings)) == ({"b": [1]}, 1)


def test_beyond_the_bound_on_all_the_key_idle_for_longest_loses_first() -> None:
    rings: RecentRings[str, int] = RecentRings(per_key=3, total=4)
    for key, number in (("old", 1), ("old", 2), ("busy", 1), ("new", 1), ("busy", 2)):
        rings.add(key, number)
    assert dict(rings.items()) == {"old": [2], "new": [1], "busy": [1, 2]}
    for number in range(3, 50):
        rings.add(f"flood-{number}", number)
    assert len(rings) == 4
