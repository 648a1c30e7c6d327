"""Trials, failures and the overview of a running installation, without a browser."""

import json

import pytest

from tests.e2e.conftest import Site

pytestmark = pytest.mark.process


@pytest.mark.parametrize("endpoint", ["echo", "tokened", "open-door"])
def test_a_trial_scores_with_the_credential_of_the_endpoint(site: Site, endpoint: str) -> None:
    answer = site.rest("POST", f"/api/v1/endpoints/{endpoint}/try", {"body": '{"n": 7}', "version": "blue"})
    assert answer.status == 200, answer.body
    trial = answer.json
    assert (trial["status"], trial["version"], trial["errorCode"], trial["isWhole"]) == (200, "blue", "", True)
    assert json.loads(trial["body"])["id"] == "7" and len(trial["requestId"]) == 36


def test_a_trial_leaves_no_credential_in_answer_or_audit_log(site: Site) -> None:
    primary, secondary = site.keys("echo")
    answer = site.rest("POST", "/api/v1/endpoints/echo/try", {"body": "{}"})
    audited = (site.installation.directory / "state" / "audit.log").read_text()
    assert '"operation": "tryEndpoint"' in audited
    for text in (answer.body.decode(), audited):
        assert primary not in text and secondary not in text


def test_a_trial_of_an_unknown_version_or_endpoint_is_404(site: Site) -> None:
    refused = site.rest("POST", "/api/v1/endpoints/echo/try", {"body": "", "version": "none"})
    assert (refused.status, refused.json["error"]["code"]) == (404, "VersionNotFound")
    assert site.rest("POST", "/api/v1/endpoints/none/try", {"body": ""}).status == 404


def test_failures_of_all_workers_are_listed_by_their_request_ids(site: Site) -> None:
    key, _ = site.keys("echo")
    refused = site.score("echo", "wrong")
    broken = site.score("echo", key, path="reset")
    found = {each["requestId"]: each for each in site.rest("GET", "/api/v1/endpoints/echo/failures").json["value"]}
    first, second = (found[answer.headers["x-ms-request-id"]] for answer in (refused, broken))
    assert (first["status"], first["code"], first["version"]) == (401, "Unauthorized", "")
    assert (second["status"], second["code"]) == (502, "ReplicaFailed") and second["version"] in ("blue", "green")


def test_the_overview_has_a_row_for_each_endpoint(site: Site) -> None:
    answer = site.rest("GET", "/api/v1/overview?sort=name").json
    assert [row["name"] for row in answer["value"]] == ["echo", "open-door", "tokened"]
    assert answer["ready"] == answer["desired"] == 4
