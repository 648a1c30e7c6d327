from typing import Any

from cluster.kubernetes.name_claims import NameClaims, place_of


def cr(namespace="a", uid="1", generation=1, created="2026-01-01T00:00:00Z", name="iris", **metadata):
    of_server = {"uid": uid, "generation": generation, "creationTimestamp": created}
    return {"metadata": {"name": name, "namespace": namespace, **of_server, **metadata}}


def holder(claims: NameClaims) -> dict[str, Any]:
    found = claims.holder("iris")
    assert found is not None
    return found


def test_the_oldest_object_has_its_name_and_the_others_are_its_rivals():
    claims = NameClaims()
    claims.put(cr("a", "2", created="2026-01-01T00:00:02Z"))
    claims.put(cr("b", "1", created="2026-01-01T00:00:01Z"))
    assert place_of(holder(claims)) == "b/iris"
    assert [place_of(each) for each in claims.rivals("iris")] == ["a/iris"]


def test_of_objects_of_the_same_second_the_lower_uid_has_the_name():
    claims = NameClaims()
    claims.put(cr("a", "2"))
    claims.put(cr("b", "1"))
    assert place_of(holder(claims)) == "b/iris"


def test_a_name_passes_on_when_its_holder_is_gone():
    claims = NameClaims()
    old, young = cr("a", "1"), cr("b", "2", created="2026-01-01T00:00:09Z")
    claims.put(old)
    claims.put(young)
    claims.gone(old)
    assert claims.holder("iris") == young
    claims.gone(young)
    assert claims.holder("iris") is None and claims.names() == []


def test_what_a_watch_tells_late_does_not_undo_what_was_written_since():
    claims = NameClaims()
    assert claims.put(cr(generation=3))
    assert not claims.put(cr(generation=2))
    assert holder(claims)["metadata"]["generation"] == 3


def test_a_change_of_the_status_alone_is_taken_over():
    claims = NameClaims()
    claims.put(cr())
    assert claims.put({**cr(), "status": {"ready": "1/1"}})
    assert holder(claims)["status"] == {"ready": "1/1"}


def test_late_words_of_an_object_that_another_has_replaced_are_ignored():
    claims = NameClaims()
    claims.put(cr(uid="1"))
    claims.put(cr(uid="2"))
    assert not claims.put(cr(uid="1", deletionTimestamp="2026-01-01T00:00:05Z"))
    claims.gone(cr(uid="1"))
    assert holder(claims)["metadata"]["uid"] == "2"
