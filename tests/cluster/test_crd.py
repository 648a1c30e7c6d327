"""The CRD before a real API server: it accepts the documents that `parse` accepts, and refuses the others by itself."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from hypothesis import HealthCheck, given, settings

from cluster.kubernetes.client.api import Api, ApiError
from cluster.kubernetes.client.paths import DEFINITIONS, ENDPOINTS, path
from cluster.kubernetes.objects.deployment import faults_of
from serving.faults import InvalidManifest
from serving.manifest import parse, to_document, to_endpoint
from serving.models import DeclaredVersion, Spec
from tests.unit.serving.documents import document, valid_documents, version

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no cluster: KUBECONFIG is not set"),
]

ROOT = Path(__file__).parents[2]
DEFINITION = path(DEFINITIONS, None, "scoringendpoints.scorefront.io")


def can_be_sent(case: Mapping[str, Any]) -> bool:
    """True without NaN and infinity, for which JSON has no number."""
    try:
        json.dumps(case["manifest"], allow_nan=False)
    except ValueError:
        return False
    return True


def from_an_image(manifest: Any) -> Any:
    """The manifest with images for the scripts that the API server would refuse first."""
    return json.loads(json.dumps(manifest).replace('{"entryScript": "score.py"}', '{"image": "m"}'))


EVERY_WRONG = yaml.safe_load((ROOT / "tests/data/wrong_manifests.yaml").read_text(encoding="utf-8"))
WRONG = [case for case in EVERY_WRONG if can_be_sent(case)]
EXAMPLES = {
    str(file.relative_to(ROOT)): manifest
    for file in sorted((ROOT / "examples").rglob("*.yaml"))
    for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    if manifest and manifest.get("kind") == "ScoringEndpoint" and not faults_of(to_endpoint(parse(manifest)))
}
IMAGE = {"image": "registry.example.com/model:1"}
ADOPTED = {"workloadRef": {"kind": "Deployment", "name": "model"}}
ON_ONE_MACHINE: tuple[dict[str, Any], ...] = ({"entryScript": "score.py"}, {"command": ["python", "x.py"]})
# As kubectl asks, an unknown field being an error; and nothing is stored.
SCHEMA_TAKES_S = 3.0
STRICTLY = {"dryRun": "All", "fieldValidation": "Strict"}


class Server:
    """The API server, asked by dry runs."""

    def __init__(self, api: Api) -> None:
        self.api = api

    async def create(self, manifest: Any) -> dict[str, Any]:
        return await self.api.create(path(ENDPOINTS, "default"), manifest, STRICTLY, urgent=True)

    async def apply(self, manifest: Any) -> dict[str, Any]:
        where = path(ENDPOINTS, "default", manifest["metadata"]["name"])
        return await self.api.apply(f"{where}?dryRun=All&fieldValidation=Strict", manifest, force=True)

    async def refusal(self, manifest: Any) -> str:
        with pytest.raises(ApiError) as refused:
            await self.create(manifest)
        # 415: there is no document at all
        assert refused.value.status in (400, 415, 422)
        return refused.value.message


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> AsyncIterator[Server]:
    api = await Api.connect()
    try:
        definition = yaml.safe_load((ROOT / "deploy/base/crd.yaml").read_text(encoding="utf-8"))
        await api.apply(f"{DEFINITION}?fieldValidation=Strict", definition, "scorefront-tests", force=True)
        await until_it_is_in_use(api)
        yield Server(api)
    finally:
        await api.close()


async def until_it_is_in_use(api: Api) -> None:
    """Established, and served: a changed schema takes the API server a moment."""
    async with asyncio.timeout(30):
        while True:
            conditions = (await api.get(DEFINITION)).get("status", {}).get("conditions") or []
            if any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
                break
            await asyncio.sleep(0.2)
    await asyncio.sleep(SCHEMA_TAKES_S)


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["name"])
async def test_the_api_server_refuses_a_wrong_manifest(server: Server, case: dict[str, Any]) -> None:
    assert await server.refusal(from_an_image(case["manifest"]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (version(trafficPercentile=101), "less than or equal to 100"),
        (version(replica={}), "exactly one of entryScript, command, image"),
        (version(replica={"image": "m", "modelDir": "x"}), "goes only with entryScript, command"),
        (version(replica={"static": ["nowhere"]}), 'must be "host:port"'),
        (version(autoScaler={"minReplicas": 11}), "minReplicas must be at most maxReplicas"),
        (version(numReplicas=1, autoScaler={"maxReplicas": 2}), "must be left out while autoscaling is off"),
        *((version(replica=kind), "runs on one machine only; in a cluster use image") for kind in ON_ONE_MACHINE),
        (version(replica={**IMAGE, "tolerations": [{"operator": "Exists", "value": "x"}]}), "left out with operator"),
        (version(replica={**IMAGE, "imagePullSecrets": [{"name": "scorefront-keys"}]}), "Secrets of that name belong"),
        (version(replica=ADOPTED, containerResourceRequirements={"cpu": 1}), "an adopted workload has its own"),
        (version(replica=ADOPTED, livenessProbeRequirements={"periodSeconds": 5}), "an adopted workload has its own"),
        (version(colour="red"), 'unknown field "spec.versions[0].colour"'),
    ],
)
async def test_a_refusal_names_the_field_and_the_rule(server: Server, wrong: dict[str, Any], words: str) -> None:
    message = await server.refusal(document(wrong))
    assert words in message
    assert "spec.versions[0]" in message


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(candidate=valid_documents(in_a_cluster=True))
async def test_every_valid_manifest_is_accepted_with_and_without_its_defaults(
    server: Server, candidate: dict[str, Any]
) -> None:
    await server.create(candidate)
    await server.create(to_document(parse(candidate)))


@pytest.mark.parametrize("manifest", EXAMPLES.values(), ids=EXAMPLES)
async def test_an_example_is_accepted_as_kubectl_and_as_server_side_apply_send_it(
    server: Server, manifest: dict[str, Any]
) -> None:
    await server.create(manifest)
    await server.apply(manifest)


LARGE = {
    "a thousand addresses": {"static": [f"host-{number}.example.com:80" for number in range(1000)]},
    "addresses of every kind": {
        "static": ["[::1]:80", "[2001:DB8::1]:443", "[::ffff:10.0.0.1]:80", "1.2.3.4:65535", "my_svc:1", "1a.b:9"]
    },
    "a thousand variables": {"image": "model", "env": {f"V{number}": "x" for number in range(1000)}},
}


@pytest.mark.parametrize("replica", LARGE.values(), ids=LARGE)
async def test_the_largest_and_the_strangest_are_accepted(server: Server, replica: dict[str, Any]) -> None:
    parse(document(version(replica=replica)))
    await server.create(document(version(replica=replica)))


STRANGE = [
    *(
        "1.2.3:80",
        "01.2.3.4:80",
        "256.1.1.1:80",
        "[::1:80",
        "[::g]:80",
        "::1]:80",
        "[]:80",
        "a..b:80",
        "-a:80",
        "a-:80",
    ),
    *(
        f"{'a' * 64}:80",
        "a:080",
        "a:99999",
        "a:",
        ":80",
        "a b:80",
        "a:80/",
        "a:80\n",
        "münchen:80",
        "a.:80",
        "[::1%eth0]:80",
    ),
]


@pytest.mark.parametrize("address", STRANGE)
async def test_an_address_that_parse_refuses_is_refused(server: Server, address: str) -> None:
    wrong = document(version(replica={"static": [address]}))
    with pytest.raises(InvalidManifest):
        parse(wrong)
    assert await server.refusal(wrong)


async def test_null_means_the_default_wherever_a_field_may_be_left_out(server: Server) -> None:
    optional = [name for name, field in DeclaredVersion.model_fields.items() if not field.is_required()]
    of_spec = [name for name, field in Spec.model_fields.items() if not field.is_required()]
    plain = version(replica=IMAGE)
    manifest = document({**plain, **dict.fromkeys(optional)}, **dict.fromkeys(of_spec))
    assert to_document(parse(manifest)) == to_document(parse(document(plain)))
    await server.create(manifest)


async def test_nothing_is_filled_in_or_dropped(server: Server) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "m", "new": {"deep": [1, None]}}]}}
    manifest = document(version(replica={"podTemplate": template}, autoScaler=None), kvTags={"Some key": ""})
    stored = await server.create(manifest)
    assert json.dumps(stored["spec"], sort_keys=True) == json.dumps(manifest["spec"], sort_keys=True)
