from typing import Any

from cluster.kubernetes.endpoint_objects import EndpointObjects, title_of


def cr(
    namespace: str = "a",
    uid: str = "1",
    generation: int = 1,
    created: str = "2026-01-01T00:00:00Z",
    name: str = "iris",
    **metadata: str,
) -> dict[str, Any]:
    of_server = {"uid": uid, "generation": generation, "creationTimestamp": created}
    return {"metadata": {"name": name, "namespace": namespace, **of_server, **metadata}}


def owner(objects: EndpointObjects) -> dict[str, Any]:
    found = objects.owner("iris")
    assert found is not None
    return found


def test_the_oldest_object_has_its_name_and_the_others_are_its_rivals() -> None:
    objects = EndpointObjects()
    objects.put(cr("a", "2", created="2026-01-01T00:00:02Z"))
    objects.put(cr("b", "1", created="2026-01-01T00:00:01Z"))
    assert title_of(owner(objects)) == "b/iris"
    assert [title_of(each) for each in objects.rivals("iris")] == ["a/iris"]


def test_of_objects_of_the_same_second_the_lower_uid_has_the_name() -> None:
    objects = EndpointObjects()
    objects.put(cr("a", "2"))
    objects.put(cr("b", "1"))
    assert title_of(owner(objects)) == "b/iris"


def test_a_name_passes_on_when_its_holder_is_gone() -> None:
    objects = EndpointObjects()
    old, young = cr("a", "1"), cr("b", "2", created="2026-01-01T00:00:09Z")
    objects.put(old)
    objects.put(young)
    objects.gone(old)
    assert objects.owner("iris") == young
    objects.gone(young)
    assert objects.owner("iris") is None and objects.names() == []


def test_a_late_watch_event_does_not_undo_a_later_write() -> None:
    objects = EndpointObjects()
    assert objects.put(cr(generation=3))
    assert not objects.put(cr(generation=2))
    assert owner(objects)["metadata"]["generation"] == 3


def test_a_change_of_the_status_alone_is_taken_over() -> None:
    objects = EndpointObjects()
    objects.put(cr())
    assert objects.put({**cr(), "status": {"ready": "1/1"}})
    assert owner(objects)["status"] == {"ready": "1/1"}


def test_late_words_of_an_object_that_another_has_replaced_are_ignored() -> None:
    objects = EndpointObjects()
    objects.put(cr(uid="1"))
    objects.put(cr(uid="2"))
    assert not objects.put(cr(uid="1", deletionTimestamp="2026-01-01T00:00:05Z"))
    objects.gone(cr(uid="1"))
    assert owner(objects)["metadata"]["uid"] == "2"


def test_the_late_answer_to_a_write_does_not_bring_a_deleted_object_back() -> None:
    """Else its name stays taken for an object of another namespace."""
    objects = EndpointObjects()
    first, second = cr("team-a", "1"), cr("home", "2", created="2026-01-01T00:00:09Z")
    objects.put(first)
    objects.gone(first)
    assert not objects.put({**first, "metadata": {**first["metadata"], "finalizers": []}})
    objects.put(second)
    assert owner(objects) == second and objects.rivals("iris") == []
