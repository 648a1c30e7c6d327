"""The roles of deploy/ grant exactly the rights used by the code."""

import ast
import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scorefront.doctor import rights as needed
from scorefront.doctor.examine import examine
from tests.fakes.doctored import FakeCluster
from tests.unit.deploy.rights_used import ANY, Reader, Right, Unclear, used_by

RBAC = Path(__file__).parents[3] / "deploy" / "base" / "rbac.yaml"
PROCESSES = ("router", "control")


NEVER = {
    Right(False, "apps", "statefulsets", "create", ""): "what scorefront makes and removes are Deployments",
    Right(False, "apps", "statefulsets", "delete", ANY): "what scorefront makes and removes are Deployments",
    Right(False, "authentication.k8s.io", "selfsubjectreviews", "create", ""): "with the token of the one it is about",
    Right(False, "authorization.k8s.io", "selfsubjectaccessreviews", "create", ""): "by the same: everybody may",
}
"""Rights that the code seems to use, but does not."""
ASKED = {
    "control": {
        Right(False, "authors.scorefront.io", "scoringendpoints", "represent", ANY): "deploy/base/admission.yaml"
    },
    "router": {},
}
"""Rights that no request needs; the admission policy asks the authorizer for them."""


def roles() -> dict[str, Mapping[str, Any]]:
    """Name -> Role or ClusterRole; those of endpoints end with -endpoints."""
    documents = yaml.safe_load_all(RBAC.read_text())
    return {each["metadata"]["name"]: each for each in documents if each["kind"] in ("Role", "ClusterRole")}


def granted(process: str) -> Iterator[Right]:
    """Every right of every rule, one by one."""
    for home, name in ((True, f"scorefront-{process}"), (False, f"scorefront-{process}-endpoints")):
        for rule in roles()[name]["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for named in rule.get("resourceNames", [ANY]):
                            yield Right(home, group, resource, verb, named)


def covers(grant: Right, use: Right) -> bool:
    """True if the grant allows the request. Home may have no endpoints, so requests in it must be granted there."""
    return grant[:4] == use[:4] and (grant.name == ANY or grant.name == use.name)


def used(process: str) -> dict[Right, str]:
    """Right -> a place that uses it. The doctor looks around in a router's pod."""
    found = used_by(f"scorefront.{process}.{process}_process") | (used_by_the_doctor() if process == "router" else {})
    return {right: place for right, place in found.items() if right not in NEVER} | ASKED[process]


def used_by_the_doctor() -> dict[Right, str]:
    cluster = FakeCluster(home="scoring", watched=("models",))
    cluster.lists = {
        path.replace("/scoring/", "/models/"): items for path, items in cluster.lists.items()
    } | cluster.lists

    async def look() -> None:
        async for _ in examine(cluster, 5.0):
            pass

    asyncio.run(look())
    return {_right(*asked): "scorefront.doctor" for asked in cluster.asked}


def _right(verb: str, path: str, query: Mapping[str, str]) -> Right:
    """Of one request: /api/v1/namespaces/NAMESPACE/RESOURCE[/NAME], or the same below /apis/GROUP."""
    root, _, rest = path.partition("/namespaces/")
    namespace, resource, *named = rest.split("/")
    group = root.split("/")[2] if root.startswith("/apis/") else ""
    selected = query.get("fieldSelector", "").removeprefix("metadata.name=")
    name = named[0] if named else selected or ANY
    return Right(namespace == "scoring", group, resource, verb if named or verb == "watch" else "list", name)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_may_do_all_that_its_code_does(process: str) -> None:
    grants = list(granted(process))
    missing = {
        place: right for right, place in used(process).items() if not any(covers(grant, right) for grant in grants)
    }
    assert missing == {}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_may_do_nothing_that_its_code_does_not(process: str) -> None:
    uses = used(process)
    assert uses
    idle = [grant for grant in granted(process) if not any(covers(grant, right) for right in uses)]
    assert idle == []


@pytest.mark.parametrize("process", PROCESSES)
def test_a_right_in_every_namespace_is_not_granted_again_at_home_under_a_name(process: str) -> None:
    """A rule names its objects if it can: a right to any object of home is one that no name can narrow."""
    wide = [right for right in granted(process) if right.home and right.name == ANY and right.resource != "pods"]
    assert all(right.verb == "create" or right.resource == "pods/resize" for right in wide), wide


def test_a_router_never_reads_a_secret() -> None:
    assert not any(right.resource.startswith("secrets") for right in granted("router"))


def test_no_rule_grants_everything_of_a_kind() -> None:
    assert not any("*" in (right.group, right.resource, right.verb) for name in PROCESSES for right in granted(name))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_doctor_asks_for_exactly_the_rights_that_are_granted(process: str) -> None:
    asked = {
        Right(each.namespace == "home", each.group, each.resource, each.verb, each.name or ANY)
        for each in needed.rights_of(process, "home", ("models",))
    }
    assert asked == set(granted(process))


# ---- the reader can fail, and reads the right calls


def rights_of(source: str, monkeypatch: pytest.MonkeyPatch) -> set[Right]:
    monkeypatch.setattr("tests.unit.deploy.rights_used.parsed", lambda module: ast.parse(source))
    return {right for _, right in Reader("made.up", ("made.up",)).rights()}


IMPORTS = "from cluster.kubernetes.client.paths import PODS, CONFIGMAPS, path\n"
READ = {
    "a path on the spot": ("await api.merge(path(PODS, ns, n), {})", {Right(False, "", "pods", "patch", ANY)}),
    "a list": ("await self._api.get(path(PODS, ns))", {Right(False, "", "pods", "list", ANY)}),
    "an object of home": (
        "await self._api.get(path(CONFIGMAPS, self._api.home, 'x'))",
        {Right(True, "", "configmaps", "get", "x")},
    ),
    "a variable": (
        "where = path(PODS, ns, n, 'log')\n  await api.text(where)",
        {Right(False, "", "pods/log", "get", ANY)},
    ),
    "an apply, which may create": (
        "await api.apply(path(PODS, ns, n), {})",
        {Right(False, "", "pods", "patch", ANY), Right(False, "", "pods", "create", "")},
    ),
    "a reflector of one object": (
        "Reflector(api, path(CONFIGMAPS, api.home), field_selector=f'metadata.name={NAME}')",
        {Right(True, "", "configmaps", verb, "its-name") for verb in ("list", "watch")},
    ),
}


@pytest.mark.parametrize(("line", "rights"), READ.values(), ids=READ)
def test_a_call_is_read(line: str, rights: set[Right], monkeypatch: pytest.MonkeyPatch) -> None:
    source = f"{IMPORTS}NAME = 'its-name'\nasync def f(self, api, ns, n):\n  {line}\n"
    assert rights_of(source, monkeypatch) == rights


def test_a_helper_of_the_same_module_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = IMPORTS + (
        "def where(ns, sub=''):\n  return path(PODS, ns, 'n', sub)\n"
        "async def f(api):\n  await api.get(where('x'))\n  await api.replace(where('x', 'scale'), {})\n"
    )
    assert rights_of(source, monkeypatch) == {
        Right(False, "", "pods", "get", "n"),
        Right(False, "", "pods/scale", "update", "n"),
    }


def test_a_path_that_cannot_be_followed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unclear, match="no path"):
        rights_of("async def f(api, table):\n  await api.get(table['x'])\n", monkeypatch)
