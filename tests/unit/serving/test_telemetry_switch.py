"""The declared switch of telemetry: accepted, and noted as long as it has no effect."""

from cluster.kubernetes.fixed_images import FixedImages
from cluster.local.check import notes
from serving.endpoint import NO_TELEMETRY
from serving.manifest import parse, to_endpoint


def test_a_wish_for_telemetry_is_noted_by_every_provider() -> None:
    version = {"name": "blue", "replica": {"static": ["127.0.0.1:9400"]}}
    document = {
        "apiVersion": "scorefront.io/v1alpha1",
        "kind": "ScoringEndpoint",
        "metadata": {"name": "iris"},
        "spec": {"appInsightsEnabled": True, "versions": [version]},
    }
    wanted = to_endpoint(parse(document))
    assert notes(wanted) == FixedImages().notes(wanted) == [NO_TELEMETRY]
    document["spec"] = {"appInsightsEnabled": False, "versions": [version]}
    assert notes(to_endpoint(parse(document))) == []
