"""Components and examples for platforms: OpenShift, Istio, Argo CD."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.kubernetes.objects.router_pod import DEPLOYMENT
from tests.unit.deploy.conftest import ROOT, Objects

COMPONENTS = sorted(each.parent.name for each in (ROOT / "deploy" / "components").glob("*/kustomization.yaml"))
FURTHER_NAMESPACE = "endpoint-namespace"
ROUTER, CONTROL = ("Deployment", "scorefront-router"), ("Deployment", "scorefront-control")
Build = Callable[[Path], Objects]


def with_component(folder: Path, component: str) -> Path:
    """A kustomization of the smallest installation with one component; that of a further namespace stands alone."""
    deploy = os.path.relpath(ROOT / "deploy", folder.resolve())
    told: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "scorefront",
        "components": [f"{deploy}/components/{component}"],
    }
    if component != FURTHER_NAMESPACE:
        told["resources"] = [f"{deploy}/overlays/dev-test"]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return folder


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_can_be_used_in_an_overlay(component: str, tmp_path: Path, build: Build) -> None:
    assert build(with_component(tmp_path, component))


def test_a_sidecar_of_a_router_takes_the_scoring_port_only_and_control_has_none(tmp_path: Path, build: Build) -> None:
    rendered = build(with_component(tmp_path, "istio"))
    template = rendered[ROUTER]["spec"]["template"]
    (router, *_) = template["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in router["ports"]}
    annotations = template["metadata"]["annotations"]
    assert annotations["traffic.sidecar.istio.io/includeInboundPorts"] == str(ports["scoring"])
    (control,) = rendered[CONTROL]["spec"]["template"]["spec"]["containers"]
    link = next(each["containerPort"] for each in control["ports"] if each["name"] == "link")
    assert annotations["traffic.sidecar.istio.io/excludeOutboundPorts"] == str(link)
    assert rendered[CONTROL]["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
    (route,) = rendered["VirtualService", "scorefront"]["spec"]["http"]
    assert route["retries"] == {"attempts": 0}
    assert ("Service", route["route"][0]["destination"]["host"]) in rendered


def applications() -> dict[str, Any]:
    found = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "deploy" / "argocd").glob("*.yaml"))]
    return {each["metadata"]["name"]: each["spec"] for each in found}


def ignored(spec: Any, kind: str) -> list[Any]:
    return [each for each in spec["ignoreDifferences"] if each["kind"] == kind]


def test_argo_cd_leaves_what_scorefront_writes(overlay: Callable[[str], Objects]) -> None:
    told = applications()
    for spec in told.values():
        assert "RespectIgnoreDifferences=true" in spec["syncPolicy"]["syncOptions"]
    spec = told["scorefront"]
    assert (ROOT / spec["source"]["path"] / "kustomization.yaml").is_file()
    rendered = overlay(Path(spec["source"]["path"]).name)
    (scaled,) = ignored(spec, "Deployment")
    assert (scaled["name"], scaled["jsonPointers"]) == (DEPLOYMENT, ["/spec/replicas"])
    assert ("Deployment", scaled["name"]) in rendered
    assert ignored(spec, "Secret")[0]["jsonPointers"] == ["/data"]
    assert all("data" not in each for (kind, _), each in rendered.items() if kind == "Secret")
    for kind in ("Deployment", "StatefulSet"):
        assert ignored(told["endpoints"], kind)[0]["jsonPointers"] == ["/spec/replicas"]
