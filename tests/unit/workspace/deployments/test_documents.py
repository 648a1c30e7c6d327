"""Documents in the course of a deployment."""

from pathlib import PurePosixPath
from typing import Any

from serving.manifest import parse, to_document
from tests.fakes.plane import manifest, version
from workspace.deployments import documents


def declared(*versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return to_document(parse(manifest("iris", list(versions), **spec)))


def splits(document: dict[str, Any]) -> dict[str, tuple[float, bool]]:
    return {each["name"]: (each["trafficPercentile"], each["isDefault"]) for each in document["spec"]["versions"]}


BLUE = version("blue", isDefault=True)
GREEN = version("green", trafficPercentile=30, maxQueueWaitMs=100)


def test_the_replica_of_the_deployed_version_gets_its_folders() -> None:
    entry = {"name": "blue", "replica": {"entryScript": "code/score.py", "env": {"A": "1"}}}
    found = documents.placed(
        manifest("iris", [entry, GREEN]), "blue", PurePosixPath("/d/source"), PurePosixPath("/d/models"), None
    )
    assert found["spec"]["versions"][0]["replica"] == {
        "entryScript": "/d/source/code/score.py",
        "sourceDirectory": "/d/source",
        "modelDir": "/d/models",
        "env": {"A": "1"},
    }
    assert found["spec"]["versions"][1] == GREEN
    assert "sourceDirectory" not in entry["replica"]


def test_a_new_version_gets_no_traffic_until_it_is_ready() -> None:
    current, wanted = declared(BLUE), declared({**BLUE, "isDefault": False}, {**GREEN, "isDefault": True})
    quiet = to_document(parse(documents.without_traffic(current, wanted, "green")))
    assert splits(quiet) == {"blue": (0, True), "green": (0, False)}
    assert quiet["spec"]["versions"][1]["maxQueueWaitMs"] == 100


def test_the_wanted_declaration_is_made_whole_where_nobody_has_changed_the_endpoint() -> None:
    base = declared(BLUE)
    wanted = declared({**BLUE, "trafficPercentile": 70}, GREEN, description="new")
    quiet = documents.without_traffic(base, wanted, "green")
    assert documents.merged(quiet, base, wanted, "green") == wanted
    assert documents.merged(base, None, wanted, "green") == wanted
    assert documents.merged(quiet, base, wanted, "") == wanted


def test_a_change_by_others_survives_the_deployment_of_a_version() -> None:
    base = declared(BLUE)
    wanted = declared({**BLUE, "isDefault": False}, {**GREEN, "isDefault": True, "type": "Control"})
    changed = declared({**BLUE, "maxQueueWaitMs": 900, "type": "Control"}, description="by others")
    found = documents.merged(changed, base, wanted, "green")
    assert found["spec"]["description"] == "by others"
    assert splits(found) == {"blue": (0, False), "green": (30, True)}
    assert [each["type"] for each in found["spec"]["versions"]] == ["Treatment", "Control"]
    assert found["spec"]["versions"][0]["maxQueueWaitMs"] == 900


def test_a_failed_deployment_leaves_the_endpoint_as_it_was() -> None:
    base = declared(BLUE)
    tried = declared({**BLUE, "maxQueueWaitMs": 900}, GREEN)
    assert documents.taken_back(tried, tried, base, "green") == base
    assert documents.taken_back(tried, tried, base, "") == base


def test_a_change_by_others_survives_the_failure_of_a_version() -> None:
    base, tried = declared(BLUE), declared(BLUE, GREEN)
    changed = declared({**BLUE, "maxQueueWaitMs": 900}, GREEN)
    found = documents.taken_back(changed, tried, base, "green")
    assert found == declared({**BLUE, "maxQueueWaitMs": 900})


def test_a_replaced_version_goes_back_where_others_have_changed_another_one() -> None:
    base = declared(BLUE, GREEN)
    tried = declared(BLUE, {**GREEN, "maxQueueWaitMs": 5})
    changed = declared({**BLUE, "maxQueueWaitMs": 900}, {**GREEN, "maxQueueWaitMs": 5})
    found = documents.taken_back(changed, tried, base, "green")
    assert found == declared({**BLUE, "maxQueueWaitMs": 900}, GREEN)


def test_a_shifted_split_changes_no_replica() -> None:
    base = declared(BLUE, GREEN)
    assert documents.changed_versions(base, declared(BLUE, {**GREEN, "trafficPercentile": 5})) == ()
    assert documents.changed_versions(base, declared(BLUE, {**GREEN, "maxQueueWaitMs": 5})) == ("green",)
    assert documents.changed_versions(None, base) == ("blue", "green")
