"""The overlays of deploy/, as kubectl renders them: the promises of each, and the expectations of the started code."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
import typer.main
import yaml

from autoscaler.frontend_settings import LEAST_ROUTERS, ClusterPurpose
from cluster.kubernetes.container_end import CONTAINER
from scorefront import __version__
from scorefront.cli.app import app
from serving.manifest import parse
from tests.unit.deploy.conftest import CHART, ROOT, Objects

OVERLAYS = tuple(sorted(each.parent.name for each in (ROOT / "deploy" / "overlays").glob("*/kustomization.yaml")))
ARBITRARY_USER = "openshift"
ROUTER, CONTROL = ("Deployment", "scorefront-router"), ("Deployment", "scorefront-control")
Overlay = Callable[[str], Objects]


def pods(rendered: Objects) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(process, pod spec, its main container)."""
    for key, process in ((ROUTER, "router"), (CONTROL, "control")):
        spec = rendered[key]["spec"]["template"]["spec"]
        yield process, spec, spec["containers"][0]


def settings(rendered: Objects) -> dict[str, str]:
    (found,) = (each for (kind, name), each in rendered.items() if kind == "ConfigMap" and "settings" in name)
    data: dict[str, str] = found["data"]
    return data


def test_dev_test_is_one_router_that_does_not_scale_itself(overlay: Overlay) -> None:
    rendered = overlay("dev-test")
    assert rendered[ROUTER]["spec"]["replicas"] == LEAST_ROUTERS[ClusterPurpose.DEV_TEST]
    assert settings(rendered)["SCOREFRONT_CLUSTER_PURPOSE"] == ClusterPurpose.DEV_TEST
    kinds = {kind for kind, _ in rendered}
    assert not kinds & {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PriorityClass"}


def test_production_is_three_routers_that_are_kept_apart_and_guarded(overlay: Overlay) -> None:
    rendered = overlay("production")
    assert rendered[ROUTER]["spec"]["replicas"] == LEAST_ROUTERS[ClusterPurpose.FAST_PROD]
    assert rendered[CONTROL]["spec"]["replicas"] == 2
    assert settings(rendered)["SCOREFRONT_CLUSTER_PURPOSE"] == ClusterPurpose.FAST_PROD
    kinds = {kind for kind, _ in rendered}
    assert kinds >= {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor", "PriorityClass"}
    for process, spec, _ in pods(rendered):
        assert spec["priorityClassName"] == "scorefront"
        near = spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        apart = [near[0]["podAffinityTerm"], *spec["topologySpreadConstraints"]]
        assert [each["topologyKey"] for each in apart] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        assert all(each["labelSelector"]["matchLabels"] == {"scorefront.io/component": process} for each in apart)


def test_without_prometheus_production_lacks_just_the_objects_of_its_operator_and_the_board(overlay: Overlay) -> None:
    full, plain = overlay("production"), overlay("production-without-prometheus")
    assert full.keys() - plain.keys() == {
        ("Service", "scorefront-admin"),
        ("ServiceMonitor", "scorefront-router"),
        ("ServiceMonitor", "scorefront-control"),
        ("PrometheusRule", "scorefront"),
        ("ConfigMap", "scorefront-dashboard"),
    }
    assert all(plain[key] == full[key] for key in plain)


def test_openshift_differs_from_production_by_the_users_of_its_pods_only(overlay: Overlay) -> None:
    full, theirs = overlay("production"), overlay(ARBITRARY_USER)
    assert theirs.keys() == full.keys()
    assert {key for key in full if theirs[key] != full[key]} == {ROUTER, CONTROL}
    for (_, spec, _), (_, other, _) in zip(pods(full), pods(theirs), strict=True):
        for field in ("runAsUser", "runAsGroup", "fsGroup"):
            del spec["securityContext"][field]
        assert spec == other


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_port_listens_on_both_families_and_services_prefer_both(name: str, overlay: Overlay) -> None:
    rendered = overlay(name)
    for _, _, container in pods(rendered):
        listening = [each for each in container["args"] if re.match("--(listen|admin|control|link)=", each)]
        assert len(listening) == 2 and all(re.search(r"=\[::\]:\d+$", each) for each in listening)
    assert {each["spec"]["ipFamilyPolicy"] for (kind, _), each in rendered.items() if kind == "Service"} == {
        "PreferDualStack"
    }


def test_production_serves_https_from_a_mounted_secret(overlay: Overlay) -> None:
    rendered = overlay("production")
    (router, _) = pods(rendered)
    mounts = {mount["name"]: mount["mountPath"] for mount in router[2]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in router[1]["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == "scorefront-tls"
    files = [argument.partition("=")[2] for argument in router[2]["args"] if argument.startswith("--tls-")]
    assert files == [f"{mounts['tls']}/tls.crt", f"{mounts['tls']}/tls.key"]
    assert rendered["Service", "scorefront"]["spec"]["ports"][0]["port"] == 443
    (control,) = (container for process, _, container in pods(rendered) if process == "control")
    assert "--scoring-url=https://scorefront.$(SCOREFRONT_NAMESPACE)" in control["args"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_are_confined_as_the_restricted_standard_asks_and_write_nowhere_but_to_volumes(
    name: str, overlay: Overlay
) -> None:
    for _, spec, container in pods(overlay(name)):
        assert spec["securityContext"]["runAsNonRoot"]
        users = {spec["securityContext"].get(each) for each in ("runAsUser", "runAsGroup", "fsGroup")}
        assert users == ({None} if name == ARBITRARY_USER else {10001})
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] and not confined["allowPrivilegeEscalation"]
        assert confined["capabilities"] == {"drop": ["ALL"]}
        assert {next(kind for kind in volume if kind != "name") for volume in spec["volumes"]} <= {"emptyDir", "secret"}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_exit_reporter_reads_the_in_flight_table_that_the_router_writes_to_memory(
    name: str, overlay: Overlay
) -> None:
    template = overlay(name)[ROUTER]["spec"]["template"]
    router, reporter, _ = template["spec"]["containers"]
    assert template["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == router["name"] == CONTAINER
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "inflight")
    assert volume["emptyDir"]["medium"] == "Memory"
    (mount,) = reporter["volumeMounts"]
    assert mount in router["volumeMounts"] and mount["name"] == volume["name"]
    told = f"--inflight-dir={mount['mountPath']}"
    assert reporter["args"] == ["report-exits", told] and told in router["args"]
    assert reporter["image"] == router["image"] and reporter["securityContext"] == router["securityContext"]
    assert {each["name"] for each in reporter["env"]} == {"POD_NAME", "SCOREFRONT_NAMESPACE"}
    assert reporter["resources"]["limits"].keys() == router["resources"]["limits"].keys()


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_collector_reads_the_rings_that_the_router_writes_to_memory(name: str, overlay: Overlay) -> None:
    template = overlay(name)[ROUTER]["spec"]["template"]
    router, _, collector = template["spec"]["containers"]
    (volume,) = (each for each in template["spec"]["volumes"] if each["name"] == "rings")
    assert volume["emptyDir"]["medium"] == "Memory"
    assert all(mount in router["volumeMounts"] for mount in collector["volumeMounts"])
    (told,) = (f"--rings-dir={mount['mountPath']}" for mount in router["volumeMounts"] if mount["name"] == "rings")
    assert collector["args"][:2] == ["collector", told] and told in router["args"]
    assert collector["image"] == router["image"] and collector["securityContext"] == router["securityContext"]
    secret = {"secretRef": {"name": "scorefront-telemetry", "optional": True}}
    assert collector["envFrom"] == [*router["envFrom"], secret], "credentials of receivers are for the collector only"


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_variable_of_a_service_is_taken_for_a_setting(name: str, overlay: Overlay) -> None:
    assert all(spec["enableServiceLinks"] is False for _, spec, _ in pods(overlay(name)))


@pytest.mark.parametrize("name", OVERLAYS)
def test_pods_are_replaced_one_by_one_with_no_gap(name: str, overlay: Overlay) -> None:
    for key in (ROUTER, CONTROL):
        assert overlay(name)[key]["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_router_has_time_to_drain(name: str, overlay: Overlay) -> None:
    rendered = overlay(name)
    (router, _) = pods(rendered)
    pause_s = router[2]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = float(settings(rendered)["SCOREFRONT_DRAIN_TIMEOUT_S"])
    assert router[1]["terminationGracePeriodSeconds"] >= math.ceil(pause_s + drain_s) + 10


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_argument_is_one_that_the_command_takes(name: str, overlay: Overlay) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    for process, _, container in pods(overlay(name)):
        word, *options = container["args"]
        assert word == process
        known = {option for parameter in group.commands[word].params for option in parameter.opts}
        assert {option.partition("=")[0] for option in options} <= known


@pytest.mark.parametrize("name", OVERLAYS)
def test_ports_and_probes_are_those_that_the_arguments_open(name: str, overlay: Overlay) -> None:
    for _, _, container in pods(overlay(name)):
        opened = {int(port) for port in re.findall(r"=\[::\]:(\d+)", " ".join(container["args"]))}
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert set(ports.values()) == opened
        for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        start, alive = container["startupProbe"], container["livenessProbe"]
        # Else a process that starts slowly, for lack of CPU time, would be killed again and again before it is up.
        assert start["periodSeconds"] * start["failureThreshold"] >= 120 > alive["periodSeconds"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_budgets_and_policies_find_pods_and_ports_that_exist(name: str, overlay: Overlay) -> None:
    rendered = overlay(name)
    labels = {
        process: rendered[key]["spec"]["template"]["metadata"]["labels"]
        for process, key in (("router", ROUTER), ("control", CONTROL))
    }
    ports = {process: {port["name"] for port in container["ports"]} for process, _, container in pods(rendered)}
    for (kind, _), each in rendered.items():
        if kind == "Service":
            (process,) = (one for one, own in labels.items() if each["spec"]["selector"].items() <= own.items())
            assert {port["targetPort"] for port in each["spec"]["ports"]} <= ports[process]
        if kind == "PodDisruptionBudget":
            assert each["spec"]["maxUnavailable"] == 1 and each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
            assert any(each["spec"]["selector"]["matchLabels"].items() <= own.items() for own in labels.values())


@pytest.mark.parametrize("name", OVERLAYS)
def test_bindings_name_accounts_and_roles_that_exist(name: str, overlay: Overlay) -> None:
    rendered = overlay(name)
    bindings = [each for (kind, _), each in rendered.items() if kind.endswith("RoleBinding")] + [
        each for (kind, _), each in rendered.items() if kind == "RoleBinding"
    ]
    assert bindings
    for each in bindings:
        assert (each["roleRef"]["kind"], each["roleRef"]["name"]) in rendered
        for subject in each["subjects"]:
            assert (subject["kind"], subject["name"]) in rendered
            assert subject["namespace"] == "scorefront"


def test_images_bear_the_version_of_the_code() -> None:
    base = yaml.safe_load((ROOT / "deploy/base/kustomization.yaml").read_text())
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    iris = (ROOT / "examples/iris/cluster.yaml").read_text()
    assert base["images"] == [{"name": "scorefront", "newTag": __version__}]
    assert (about["version"], about["appVersion"]) == (__version__, __version__)
    assert set(re.findall(r"scorefront-iris:(\S+)", iris)) == {__version__}


def test_the_example_is_a_valid_endpoint_that_needs_a_cluster() -> None:
    declared = parse(yaml.safe_load((ROOT / "examples/iris/cluster.yaml").read_text()))
    assert all(version.replica.image for version in declared.spec.versions)


def test_settings_are_documented(overlay: Overlay) -> None:
    documents = "".join((ROOT / "docs" / name).read_text() for name in ("settings.md", "kubernetes.md"))
    for name in OVERLAYS:
        assert all(f"`{setting}`" in documents for setting in settings(overlay(name)))
