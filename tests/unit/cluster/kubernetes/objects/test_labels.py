"""Names of created objects in a cluster."""

import re

from hypothesis import given
from hypothesis import strategies as st

from cluster.kubernetes.objects.labels import OwnerRef, key_of, labels_of, owner_references, selector, workload_name
from serving.endpoint import VersionKey

names = st.from_regex(r"[a-c]([-a-c]{1,6}[a-c])", fullmatch=True)
keys = st.builds(VersionKey, names, names)


def test_a_workload_is_named_after_endpoint_and_version() -> None:
    assert workload_name(VersionKey("iris", "blue")) == "iris-blue"


def test_dashes_in_names_do_not_make_two_versions_share_a_workload() -> None:
    one, other = VersionKey("fraud-eu", "blue"), VersionKey("fraud", "eu-blue")
    assert workload_name(one).startswith("fraud-eu-blue-")
    assert workload_name(one) != workload_name(other)


@given(keys, keys)
def test_two_versions_never_share_a_workload(one: VersionKey, other: VersionKey) -> None:
    assert (workload_name(one) == workload_name(other)) == (one == other)


def test_the_longest_name_fits_into_a_name_of_the_api() -> None:
    name = workload_name(VersionKey("a" * 32, "b-" * 15 + "bb"))
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name) and len(name) <= 253


@given(keys)
def test_the_labels_of_a_version_identify_it(key: VersionKey) -> None:
    assert key_of({"labels": {"other": "x", **labels_of(key)}}) == key


def test_a_pod_without_labels_belongs_to_no_version() -> None:
    assert key_of({}) is None
    assert key_of({"labels": None}) is None
    assert key_of({"labels": {"scorefront.io/endpoint": "iris"}}) is None


def test_a_selector_is_written_as_a_query_takes_it() -> None:
    assert selector(VersionKey("iris", "blue")) == "scorefront.io/endpoint=iris,scorefront.io/version=blue"


def test_an_owner_is_the_endpoint_and_does_not_hold_up_its_own_deletion() -> None:
    [reference] = owner_references(OwnerRef("iris", "u-1"))
    assert reference["kind"] == "ScoringEndpoint" and reference["uid"] == "u-1"
    assert reference["controller"] is True and reference["blockOwnerDeletion"] is False
