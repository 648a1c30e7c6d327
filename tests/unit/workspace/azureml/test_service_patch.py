"""JSON Patch of services, as azureml-core sends it."""

from typing import Any

import pytest

from serving.faults import InvalidManifest
from serving.manifest import ScoringEndpoint, parse, to_document
from serving.traffic import effective_shares
from tests.unit.workspace.azureml.payloads import IMAGE, NOW, aks, endpoint
from workspace.azureml.azure_errors import AzureError
from workspace.azureml.service_patch import ServiceChange, check_change, patched
from workspace.azureml.service_payload import create_draft
from workspace.azureml.service_record import record_of

LATER = "2026-02-02T00:00:00+00:00"


def declared(payload: dict[str, Any]) -> ScoringEndpoint:
    return parse(create_draft(payload, NOW).document)


def put(path: str, value: Any, op: str = "replace") -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


def change(service: ScoringEndpoint, *operations: Any) -> ServiceChange:
    return patched(service, list(operations), LATER)


def version(done: ServiceChange, name: str = "myservice") -> dict[str, Any]:
    entries = to_document(parse(done.document))["spec"]["versions"]
    found: dict[str, Any] = next(entry for entry in entries if entry["name"] == name)
    return found


def both(*names: str) -> ScoringEndpoint:
    """The owner's endpoint: versiona with 20, versionb with 10 percent."""
    first = declared(endpoint(trafficPercentile=20))
    done = change(first, put("/versions/versionb", aks("versionb", trafficPercentile=10), "add"))
    return parse(done.document)


def shares(done: ServiceChange) -> dict[str, float]:
    entries = to_document(parse(done.document))["spec"]["versions"]
    default = next(entry["name"] for entry in entries if entry["isDefault"])
    return effective_shares({entry["name"]: entry["trafficPercentile"] for entry in entries}, default)


SETTINGS = [
    ("scoringTimeoutMs", 1234),
    ("maxConcurrentRequestsPerContainer", 3),
    ("maxQueueWaitMs", 77),
    ("containerResourceRequirements/cpu", 0.7),
    ("containerResourceRequirements/cpuLimit", 2),
    ("containerResourceRequirements/memoryInGB", 1.5),
    ("containerResourceRequirements/memoryInGBLimit", 2.5),
    ("containerResourceRequirements/gpu", 1),
    ("livenessProbeRequirements/periodSeconds", 11),
    ("livenessProbeRequirements/initialDelaySeconds", 12),
    ("livenessProbeRequirements/timeoutSeconds", 13),
    ("livenessProbeRequirements/successThreshold", 14),
    ("livenessProbeRequirements/failureThreshold", 15),
    ("autoScaler/minReplicas", 2),
    ("autoScaler/maxReplicas", 5),
    ("autoScaler/refreshPeriodInSeconds", 3),
    ("autoScaler/targetUtilization", 30),
    ("dataCollection/storageEnabled", True),
]


@pytest.mark.parametrize(("path", "value"), SETTINGS)
@pytest.mark.parametrize("kind", ["AKS", "AKSENDPOINT"])
def test_a_setting_of_a_version_is_changed(kind: str, path: str, value: Any) -> None:
    service = declared(aks() if kind == "AKS" else endpoint())
    prefix = "/" if kind == "AKS" else "/versions/versiona/"
    found: Any = version(change(service, put(prefix + path, value)), "myservice" if kind == "AKS" else "versiona")
    for step in path.split("/"):
        found = found[step]
    assert found == value


@pytest.mark.parametrize("op", ["add", "replace"])
def test_settings_of_the_service_are_changed(op: str) -> None:
    done = change(
        declared(aks()),
        put("/description", "d", op),
        put("/kvTags", {"x": "y"}, op),
        put("/properties/p", "q", "add"),
        put("/authEnabled", False, op),
        put("/aadAuthEnabled", True, op),
        put("/appInsightsEnabled", True, op),
    )
    spec = done.document["spec"]
    assert (spec["description"], spec["kvTags"]) == ("d", {"x": "y"})
    assert spec["properties"] == {"azureml.git.commit": "abc", "p": "q"}
    assert (spec["authEnabled"], spec["tokenAuthEnabled"]) == (False, True)
    record = record_of(done.document)
    assert (spec["appInsightsEnabled"], record.created, record.updated) == (True, NOW, LATER)


def test_a_fixed_number_ends_autoscaling_and_the_reverse() -> None:
    fixed = change(declared(aks()), put("/numReplicas", 3))
    assert version(fixed)["numReplicas"] == 3
    assert version(fixed)["autoScaler"]["autoscaleEnabled"] is False
    scaled = change(parse(fixed.document), put("/autoScaler/autoscaleEnabled", True), put("/autoScaler/maxReplicas", 4))
    assert "numReplicas" not in version(scaled)
    assert version(scaled)["autoScaler"]["maxReplicas"] == 4
    off = change(parse(scaled.document), put("/autoScaler/autoscaleEnabled", False), put("/numReplicas", 2))
    assert version(off)["numReplicas"] == 2


def test_a_fixed_number_with_autoscaling_is_refused() -> None:
    done = change(declared(aks()), put("/autoScaler/autoscaleEnabled", True), put("/numReplicas", 2))
    with pytest.raises(InvalidManifest, match="numReplicas"):
        parse(done.document)


def test_the_owners_walk_through_the_versions_of_an_endpoint() -> None:
    first = declared(endpoint(trafficPercentile=20))
    added = change(first, put("/versions/versionb", aks("versionb", trafficPercentile=10, description="2nd"), "add"))
    assert (added.version, added.is_new) == ("versionb", True)
    assert added.image is not None
    assert added.image.models == (("iris", 1),)
    assert shares(added) == {"versiona": 0.9, "versionb": 0.1}
    assert record_of(added.document).versions["versionb"].description == "2nd"
    moved = change(
        parse(added.document),
        put("/versions/versiona/isDefault", False),
        put("/versions/versiona/type", "Treatment"),
        put("/versions/versionb/isDefault", True),
        put("/versions/versionb/type", "Control"),
        put("/versions/versionb/trafficPercentile", 40),
        put("/versions/versionb/description", "my second version update"),
        put("/versions/versionb/tags", {"t": "u"}),
    )
    assert shares(moved) == {"versiona": 0.2, "versionb": 0.8}
    assert moved.version == ""
    assert version(moved, "versionb")["type"] == "Control"
    texts = record_of(moved.document).versions["versionb"]
    assert (texts.description, texts.tags) == ("my second version update", {"t": "u"})
    gone = change(parse(moved.document), {"op": "remove", "path": "/versions/versionb"})
    assert shares(gone) == {"versiona": 1.0}
    assert list(record_of(gone.document).versions) == ["versiona"]


def test_a_role_moves_to_the_version_that_gets_it() -> None:
    done = change(both(), put("/versions/versionb/isDefault", True), put("/versions/versionb/type", "Control"))
    assert [version(done, name)["isDefault"] for name in ("versiona", "versionb")] == [False, True]
    more = put("/versions/versionc", aks("versionc", isDefault=True, type="Control"), "add")
    done = change(parse(done.document), more)
    assert [version(done, f"version{each}")["type"] for each in "abc"] == ["Treatment", "Treatment", "Control"]
    assert [version(done, f"version{each}")["isDefault"] for each in "abc"] == [False, False, True]


def test_new_code_replaces_that_of_one_version() -> None:
    image = {**IMAGE, "modelIds": ["iris:2"]}
    done = change(both(), put("/versions/versionb/environmentImageRequest", image))
    assert (done.version, done.is_new) == ("versionb", False)
    assert done.image is not None
    assert done.image.models == (("iris", 2),)
    single = change(declared(aks()), put("/environmentImageRequest", image))
    assert single.version == "myservice"


@pytest.mark.parametrize(
    ("operations", "words"),
    [
        ({}, ("list",)),
        ([1], ("[0]",)),
        ([{"op": "move", "path": "/description"}], ("[0].op", "move")),
        ([put("description", "d")], ("[0].path",)),
        ([put("/versions", {})], ("/versions", "NAME")),
        ([put("/versions/none/scoringTimeoutMs", 1)], ("none", "versiona, versionb")),
        ([{"op": "remove", "path": "/versions/none"}], ("none",)),
        ([put("/versions/versiona", aks("versiona"), "add")], ("versiona", "already")),
        ([put("/scoringTimeoutMs", 1)], ("/scoringTimeoutMs", "/versions/NAME")),
        ([put("/versions/versiona/authEnabled", False)], ("/versions/versiona/authEnabled",)),
        ([put("/versions/versiona/imageId", "i")], ("imageId",)),
        ([put("/versions/versiona/autoScaler/minReplicas/x", 1)], ("minReplicas",)),
        ([put("/kvTags", {"a": 1})], ("kvTags",)),
        ([put("/description", 1)], ("description",)),
        ([put("/appInsightsEnabled", "yes")], ("appInsightsEnabled", "yes")),
        ([{"op": "remove", "path": "/properties/azureml.git.commit"}], ("properties",)),
    ],
)
def test_wrong_patches_are_refused(operations: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(AzureError) as caught:
        patched(both(), operations, LATER)
    for word in words:
        assert word in str(caught.value)


def test_a_property_can_be_added_but_not_changed_unless_the_sdk_tracks_it() -> None:
    service = parse(change(declared(aks()), put("/properties/p", "q", "add")).document)
    with pytest.raises(AzureError, match=r"properties\.p"):
        change(service, put("/properties/p", "other", "add"))
    done = change(service, put("/properties/azureml.git.commit", "def", "add"))
    assert done.document["spec"]["properties"] == {"azureml.git.commit": "def", "p": "q"}


def test_a_seventh_version_and_the_last_one_are_refused() -> None:
    service = declared(endpoint())
    for number in range(5):
        name = f"version{number}"
        service = parse(change(service, put(f"/versions/{name}", aks(name), "add")).document)
    with pytest.raises(AzureError, match="at most 6"):
        change(service, put("/versions/seventh", aks("seventh"), "add"))
    with pytest.raises(AzureError, match="only version"):
        change(declared(endpoint()), {"op": "remove", "path": "/versions/versiona"})


@pytest.mark.parametrize(
    ("payload", "operation", "target"),
    [
        (aks(), put("/scoringTimeoutMs", 300_001), "scoringTimeoutMs"),
        (aks(), put("/aadAuthEnabled", True), "aadAuthEnabled"),
        (endpoint(), put("/versions/versiona/maxQueueWaitMs", 0), "versions.versiona.maxQueueWaitMs"),
        (endpoint(), put("/versions/versiona/trafficPercentile", 101), "versions.versiona.trafficPercentile"),
    ],
)
def test_a_broken_rule_names_the_setting_of_the_payload(
    payload: dict[str, Any], operation: dict[str, Any], target: str
) -> None:
    with pytest.raises(AzureError) as caught:
        check_change(change(declared({**payload, "authEnabled": True}), operation))
    assert target in [detail["target"] for detail in caught.value.details]


def test_more_than_a_hundred_percent_are_refused() -> None:
    done = change(both(), put("/versions/versionb/trafficPercentile", 81))
    with pytest.raises(InvalidManifest, match="100"):
        parse(done.document)
