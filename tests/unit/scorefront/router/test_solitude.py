"""The note of a router that was the sole member, for its restart."""

from pathlib import Path

import pytest

from scorefront.router.sole_member import SoleMemberMarker

OBJECT = {"metadata": {"uid": "1", "resourceVersion": "2"}, "data": {"epoch": "3"}}


def note(folder: Path, pod: str = "a", uid: str = "uid") -> SoleMemberMarker:
    return SoleMemberMarker(folder / "state" / "alone.json", pod, uid)


def test_the_note_is_there_for_the_next_process_of_the_pod(tmp_path: Path) -> None:
    note(tmp_path).keep(OBJECT)
    assert note(tmp_path).load() == OBJECT


@pytest.mark.parametrize(("pod", "uid"), [("b", "uid"), ("a", "another")])
def test_it_is_of_no_use_to_another_pod(tmp_path: Path, pod: str, uid: str) -> None:
    note(tmp_path).keep(OBJECT)
    assert note(tmp_path, pod, uid).load() is None


def test_it_is_gone_once_the_router_is_not_alone_any_more(tmp_path: Path) -> None:
    mine = note(tmp_path)
    mine.keep(OBJECT)
    mine.drop()
    mine.drop()
    assert note(tmp_path).load() is None
    mine.keep(OBJECT)
    assert note(tmp_path).load() == OBJECT


def test_a_new_process_can_drop_the_note_of_another(tmp_path: Path) -> None:
    note(tmp_path).keep(OBJECT)
    note(tmp_path).drop()
    assert note(tmp_path).load() is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pod": "a"'])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    mine = note(tmp_path)
    mine.keep(OBJECT)
    (tmp_path / "state" / "alone.json").write_text(text)
    assert mine.load() is None


def test_a_place_that_cannot_be_written_to_is_only_not_known(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file stands where the folder should be")
    note(tmp_path).keep(OBJECT)
    assert note(tmp_path).load() is None
