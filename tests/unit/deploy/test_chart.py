"""The Helm chart makes the same installation as the overlays; it is rendered by helm itself, if present."""

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.unit.deploy.conftest import CHART, ROOT, Objects

Overlay = Callable[[str], Objects]
Chart = Callable[..., Objects]
MONITORED = "serviceMonitor.enabled=true,alerts.enabled=true,dashboard.enabled=true"
CASES = {
    "dev-test": ("-f", str(CHART / "values-dev-test.yaml")),
    "production": ("--set", f"tls.secretName=scorefront-tls,{MONITORED}"),
    "openshift": ("--set", f"tls.secretName=scorefront-tls,{MONITORED},arbitraryUser=true"),
    "production-without-prometheus": ("--set", "tls.secretName=scorefront-tls"),
}


def plain(rendered: Objects) -> Objects:
    """Without the parts that always differ: the namespace, names with a hash, checksums of settings."""
    found = {}
    for (kind, name), each in rendered.items():
        if kind == "Namespace":
            continue
        metadata = {**each["metadata"]}
        metadata.pop("namespace", None)
        labels = {key: value for key, value in metadata.pop("labels", {}).items() if not key.endswith("/part-of")}
        known = re.sub(r"^(scorefront-settings)-.*", r"\1", name)
        object_ = {**each, "metadata": {**metadata, "name": known, **({"labels": labels} if labels else {})}}
        found[kind, known] = _plain(object_)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _plain(each)
            for key, each in value.items()
            if key not in ("annotations", "imagePullPolicy") or value.get("kind") == "CustomResourceDefinition"
        }
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return re.sub(r"^(scorefront-settings)-[a-z0-9]+$", r"\1", value) if isinstance(value, str) else value


@pytest.mark.parametrize("name", CASES)
def test_the_chart_renders_the_same_as_the_overlay(name: str, overlay: Overlay, chart: Chart) -> None:
    ours, theirs = plain(chart(*CASES[name])), plain(overlay(name))
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert ours[key] == theirs[key], key


def test_settings_that_change_replace_the_pods(chart: Chart) -> None:
    def told(drain_s: int) -> str:
        rendered = chart("--set-string", f"settings.SCOREFRONT_DRAIN_TIMEOUT_S={drain_s}")
        template = rendered["Deployment", "scorefront-router"]["spec"]["template"]
        assert template["spec"]["terminationGracePeriodSeconds"] == drain_s + 20
        checksum: str = template["metadata"]["annotations"]["checksum/settings"]
        return checksum

    assert told(60) != told(90)


def test_all_namespaces_are_a_setting_and_two_bindings(chart: Chart) -> None:
    rendered = chart("--set", "namespaces={*}")
    assert rendered["ConfigMap", "scorefront-settings"]["data"]["SCOREFRONT_NAMESPACES"] == "*"
    for process in ("router", "control"):
        binding = rendered["ClusterRoleBinding", f"scorefront-{process}-endpoints"]
        assert binding["subjects"][0]["namespace"] == "scorefront"


def test_with_all_namespaces_those_of_the_cluster_itself_are_out_of_bounds(chart: Chart) -> None:
    bounds = ("ValidatingAdmissionPolicy", "scorefront-control-bounds")
    assert bounds in chart("--set", "namespaces={*}")
    assert bounds not in chart("--set", "namespaces={team-a}")


def test_a_named_namespace_gets_bindings_of_its_own(chart: Chart) -> None:
    rendered = chart("--set", "namespaces={team-a}")
    for process in ("router", "control"):
        binding = rendered["RoleBinding", f"team-a/scorefront-{process}-endpoints"]
        assert binding["subjects"][0]["namespace"] == "scorefront"
    assert ("ClusterRoleBinding", "scorefront-router-endpoints") not in rendered


def test_a_wrong_value_is_refused(chart: Chart) -> None:
    with pytest.raises(AssertionError, match="purpose"):
        chart("--set", "purpose=Prod")


# ---- without helm


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("crds/crd.yaml", "base/crd.yaml"),
        ("files/rbac.yaml", "base/rbac.yaml"),
        ("files/roles.yaml", "base/roles.yaml"),
        ("files/admission.yaml", "base/admission.yaml"),
        ("files/secrets.yaml", "base/secrets.yaml"),
        ("files/network-policy/router.yaml", "components/network-policy/router.yaml"),
        ("files/availability/disruption.yaml", "components/availability/disruption.yaml"),
        ("files/service-monitor/monitor.yaml", "components/service-monitor/monitor.yaml"),
        ("files/prometheus-rule.yaml", "prometheus/prometheus-rule.yaml"),
        ("files/dashboard.json", "grafana/scorefront.json"),
        ("files/all-namespaces/bindings.yaml", "components/all-namespaces/bindings.yaml"),
        ("files/all-namespaces/bounds.yaml", "components/all-namespaces/bounds.yaml"),
    ],
)
def test_files_without_values_are_those_of_kustomize_itself(there: str, here: str) -> None:
    assert (CHART / there).resolve() == (ROOT / "deploy" / here).resolve()


def test_the_sizes_of_the_values_are_those_of_the_overlays(overlay: Overlay) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    overlays: dict[str, dict[str, Any]] = {
        "production": {},
        "dev-test": yaml.safe_load((CHART / "values-dev-test.yaml").read_text()),
    }
    for name, changes in overlays.items():
        for process in ("router", "control"):
            deployment = overlay(name)["Deployment", f"scorefront-{process}"]["spec"]
            size = {**values[process], **changes.get(process, {})}
            assert deployment["replicas"] == size["replicas"]
            assert deployment["template"]["spec"]["containers"][0]["resources"] == size["resources"]


def test_the_switches_of_the_values_are_known_to_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) <= set(schema["properties"])


def test_nothing_of_the_chart_is_left_out_of_the_repository() -> None:
    listed = subprocess.run(
        ["git", "check-ignore", *map(str, CHART.rglob("*"))], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert listed.stdout == ""
