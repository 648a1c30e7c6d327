"""F3: pods of endpoints cannot carry the identifying labels of the installation's pods."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.objects.crd import at, schema
from cluster.kubernetes.objects.deployment import pod_template
from cluster.kubernetes.objects.router_pod import SELECTOR
from cluster.kubernetes.objects.validations import ANNOTATIONS, LABELS
from serving.endpoint import VersionKey
from serving.faults import InvalidManifest
from serving.manifest import parse, to_endpoint
from serving.rules import RESERVED_KEYS
from tests.unit.deploy.conftest import ROOT, Objects, build, overlay
from tests.unit.serving.documents import document, version

__all__ = ["build", "overlay"]

RESERVED = [
    *("scorefront.io/endpoint", "scorefront.io/component", "scorefront.io/control-client", "scorefront.io/anything"),
    *("sub.scorefront.io/x", "a.b-c.scorefront.io/x", "SCOREFRONT.io/endpoint"),
    *(f"app.kubernetes.io/{name}" for name in ("name", "part-of", "component", "managed-by", "instance")),
]
FREE = ["team", "example.com/name", "notscorefront.io/x", "scorefront.io.example.com/x", "app.kubernetes.io/version"]


def manifest(field: str, notes: Any) -> dict[str, Any]:
    template = {"metadata": {field: notes}, "spec": {"containers": [{"name": "m", "image": "m:1"}]}}
    return document(version(replica={"podTemplate": template}))


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize("key", RESERVED)
def test_a_reserved_key_is_refused_with_its_place_and_value(key: str, field: str) -> None:
    with pytest.raises(InvalidManifest) as refused:
        parse(manifest(field, {"team": "flowers", key: "router"}))
    [fault] = refused.value.faults
    assert fault.path.startswith(f"spec.versions[0].replica.podTemplate.metadata.{field}")
    assert key in fault.path
    assert fault.value == "router"
    assert "is reserved" in fault.rule


@pytest.mark.parametrize("field", ["labels", "annotations"])
def test_other_keys_are_kept(field: str) -> None:
    notes = dict.fromkeys(FREE, "x")
    [made] = to_endpoint(parse(manifest(field, notes))).versions
    kept = pod_template(VersionKey("iris", "blue"), made)["metadata"][field]
    assert notes.items() <= kept.items()


@pytest.mark.parametrize("notes", ["x", ["scorefront.io/component"], {"a": 1}, {f"k{n}": "x" for n in range(101)}])
def test_labels_that_are_no_mapping_of_text_are_refused(notes: Any) -> None:
    with pytest.raises(InvalidManifest, match=r"podTemplate\.metadata\.labels"):
        parse(manifest("labels", notes))


@pytest.mark.parametrize("place", [LABELS, ANNOTATIONS])
def test_the_crd_refuses_them_by_the_same_pattern(place: tuple[str, ...]) -> None:
    part = at(schema(), place)
    [rule] = [each["rule"] for each in part["x-kubernetes-validations"] if "reserved" in each["message"]]
    pattern = rule.removeprefix("self.all(key, !key.matches('").removesuffix("'))")
    assert pattern == f"(?i){RESERVED_KEYS}"
    assert all(re.search(pattern, key) for key in RESERVED)
    assert not any(re.search(pattern, key) for key in FREE)
    assert part["maxProperties"] == 100


# ---- selectors


def selectors(value: Any) -> Iterator[dict[str, str]]:
    """Every selector inside an object."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("matchLabels", "selector") and isinstance(inner, dict) and "matchLabels" not in inner:
                yield inner
            else:
                yield from selectors(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from selectors(inner)


@pytest.mark.parametrize("name", ["dev-test", "production", "production-without-prometheus"])
def test_routers_and_control_are_selected_by_a_label_that_no_endpoint_can_set(
    name: str, overlay: Callable[[str], Objects]
) -> None:
    found = 0
    for (kind, _), each in overlay(name).items():
        # The selector of a Deployment adopts only pods without a controller; it cannot be changed in an upgrade.
        spec = each["spec"].get("template", each["spec"]) if "spec" in each else {}
        if kind in ("CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
            continue
        for selector in selectors(spec):
            assert all(key.startswith(("scorefront.io/", "kubernetes.io/")) for key in selector), (kind, selector)
            found += 1
    assert found >= 2


def test_the_chart_selects_as_the_overlays_do() -> None:
    for file in (ROOT / "deploy/helm/scorefront/templates").iterdir():
        text = file.read_text(encoding="utf-8")
        for line in re.findall(r".*(?:selector|matchLabels): \{\{- include .*", text):
            deployment = 'include "scorefront.deployed"' in line
            assert deployment or 'include "scorefront.selector"' in line, (file.name, line)


def test_code_selects_routers_by_the_label() -> None:
    assert SELECTOR == "scorefront.io/component=router"
    code = [file for folder in ("cluster", "controlplane", "router", "scorefront") for file in _python(ROOT / folder)]
    assert not [file for file in code if "app.kubernetes.io/component=" in file.read_text(encoding="utf-8")]


def _python(folder: Path) -> list[Path]:
    return list(folder.rglob("*.py"))


def test_both_deployments_give_their_pods_the_label() -> None:
    for process in ("router", "control"):
        documents = yaml.safe_load_all((ROOT / f"deploy/base/{process}.yaml").read_text(encoding="utf-8"))
        [deployment] = [each for each in documents if each["kind"] == "Deployment"]
        assert deployment["spec"]["template"]["metadata"]["labels"]["scorefront.io/component"] == process
