"""The checks in order; later steps use the findings of earlier ones.

DNS of the API server, the API, lists and watches, rights, control, peers, token issuer, model pods, image registry.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from cluster.kubernetes.client.api_errors import ApiError
from cluster.kubernetes.client.election import LINK
from cluster.kubernetes.client.paths import (
    ACCESS_REVIEWS,
    CONFIGMAPS,
    ENDPOINTS,
    IDENTITY_REVIEWS,
    LEASES,
    PODS,
    SUBJECT_ACCESS_REVIEWS,
    Resource,
    path,
)
from cluster.kubernetes.discovery import TRUST
from cluster.kubernetes.objects.endpoint_status import selectors_of
from cluster.kubernetes.objects.labels import COMPONENT, ENDPOINT
from cluster.kubernetes.objects.router_pod import SELECTOR as OF_ROUTERS
from router.membership import history
from router.peers.address import AddressError, Tcp, parse_address
from scorefront.cluster_names import LEASE
from scorefront.doctor import judge, rights
from scorefront.doctor.judge import Dialled, Finding, Pod
from serving.credentials import TokenTrust
from serving.models import DEFAULT_PORT

PAGE = "500"
MOST_DIALLED = 50
"""Maximum number of model pods that are tried, spread over all of them."""
REVIEWS_AT_ONCE = 10
OF_CONTROL = f"{COMPONENT}=control"

Document = Mapping[str, Any]


class Cluster(Protocol):
    """Observations available to the checks; satisfied by `scorefront.doctor.probes.Probes`."""

    server: str
    """URL of the API server."""
    home: str
    """Namespace of the installation."""
    watched: tuple[str | None, ...]
    """Namespaces whose endpoints are served; None stands for all."""
    inside: bool
    """This is a pod: pods can be reached."""

    def now(self) -> float:
        """Unix seconds."""

    async def resolve(self, host: str) -> list[str]:
        """Addresses of a name. Raises OSError."""

    async def dial(self, host: str, port: int) -> None:
        """Connect, and close. Raises OSError."""

    async def ask(self, url: str) -> None:
        """Have an HTTP answer of any status. Raises OSError."""

    async def version(self) -> str:
        """Version of the API server. Raises ApiError."""

    async def get(self, path: str, query: Mapping[str, str]) -> Document:
        """Raises ApiError."""

    async def review(self, path: str, body: Document) -> Document:
        """Have the API server answer a review, which is stored nowhere. Raises ApiError."""

    async def watch(self, path: str, query: Mapping[str, str]) -> None:
        """Have a watch begin, and end by itself. Raises ApiError."""


@dataclass(slots=True)
class ClusterFindings:
    """Findings of earlier steps."""

    endpoints: list[Document] = field(default_factory=list)
    pods: list[Pod] = field(default_factory=list)
    """Pods of routers and models."""


Step = Callable[[Cluster, ClusterFindings], Awaitable[list[Finding]]]


async def examine(cluster: Cluster, timeout_s: float) -> AsyncIterator[Finding]:
    """Findings as they are made; each step has `timeout_s`. Nothing can be asked of an API server that does not answer,
    so there it ends.
    """
    seen = ClusterFindings()
    for name, step, needed in STEPS:
        try:
            async with asyncio.timeout(timeout_s):
                findings = await step(cluster, seen)
        except TimeoutError:
            findings = [Finding(name, False, f"took more than {timeout_s:g} s: something on the way swallows packets")]
        except ApiError as error:
            findings = [Finding(name, False, f"cannot be checked ({error.message}): fix the problems above first")]
        for finding in findings:
            yield finding
        if needed and not all(finding.ok for finding in findings):
            return


# ---- the API server


async def _name(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    host = urlsplit(cluster.server).hostname or cluster.server
    try:
        addresses, error = await cluster.resolve(host), ""
    except OSError as caught:
        addresses, error = [], _text(caught)
    return [judge.dns(NAME, host, addresses, error)]


async def _server(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    try:
        version, error = await cluster.version(), ""
    except ApiError as caught:
        version, error = "", caught.message
    return [judge.api_server(SERVER, cluster.server, version, error)]


async def _read(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    """Collections that a router lists and watches; a single object by name, as its rights allow."""
    wanted: list[tuple[str, Resource, str | None, dict[str, str]]] = []
    for namespace in cluster.watched:
        wanted += [("endpoints", ENDPOINTS, namespace, {}), ("pods", PODS, namespace, {})]
    wanted += [
        ("routers", PODS, cluster.home, {"labelSelector": OF_ROUTERS}),
        (f"ConfigMap {TRUST}", CONFIGMAPS, cluster.home, {"fieldSelector": f"metadata.name={TRUST}"}),
        (f"ConfigMap {history.NAME}", CONFIGMAPS, cluster.home, {"fieldSelector": f"metadata.name={history.NAME}"}),
        (f"Lease {LEASE}", LEASES, cluster.home, {"fieldSelector": f"metadata.name={LEASE}"}),
    ]
    findings = list(await asyncio.gather(*(_listed_and_watched(cluster, *each) for each in wanted)))
    if all(finding.ok for finding in findings):
        seen.endpoints = [each for where in cluster.watched async for each in _all(cluster, ENDPOINTS, where, {})]
    return findings


async def _listed_and_watched(
    cluster: Cluster, what: str, resource: Resource, namespace: str | None, query: dict[str, str]
) -> Finding:
    where, collection = namespace or "all namespaces", path(resource, namespace)
    try:
        page = await cluster.get(collection, {**query, "limit": "1"})
        version = str(page.get("metadata", {}).get("resourceVersion", ""))
        await cluster.watch(collection, {**query, "watch": "1", "timeoutSeconds": "1", "resourceVersion": version})
    except ApiError as error:
        return judge.readable(READ, what, where, error.message, error.status)
    return judge.readable(READ, what, where)


# ---- the installation


async def _rights(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    """The rights of both processes: one's own by SelfSubjectAccessReview, others' by SubjectAccessReview, which needs a
    right of its own."""
    whoami = await cluster.review(path(IDENTITY_REVIEWS, None), {})
    caller = str(whoami.get("status", {}).get("userInfo", {}).get("username", ""))
    findings = []
    for process in rights.PROCESSES:
        account, wanted = (
            rights.account_of(process, cluster.home),
            [*rights.rights_of(process, cluster.home, cluster.watched)],
        )
        gate = asyncio.Semaphore(REVIEWS_AT_ONCE)
        try:
            allowed = await asyncio.gather(*(_may(cluster, gate, caller, account, each) for each in wanted))
        except ApiError as error:
            if error.status != 403:
                raise
            findings.append(judge.rights_unknown(RIGHTS, account, caller))
            continue
        findings += judge.rights(
            RIGHTS, account, len(wanted), [str(each) for each, ok in zip(wanted, allowed, strict=True) if not ok]
        )
    return findings


async def _may(cluster: Cluster, gate: asyncio.Semaphore, caller: str, account: str, right: rights.NeededRight) -> bool:
    """True if `account` has a right. Raises ApiError.

    cluster: the cluster.
    gate: bounds the reviews at a time.
    caller: user name of this process.
    account: user name of the service account.
    right: the right.
    """
    async with gate:
        if caller == account:
            answer = await cluster.review(path(ACCESS_REVIEWS, None), rights.own_review(right))
        else:
            answer = await cluster.review(path(SUBJECT_ACCESS_REVIEWS, None), rights.review_of(account, right))
    return bool(answer.get("status", {}).get("allowed"))


async def _control(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    pods = [judge.pod_of(pod) async for pod in _all(cluster, PODS, cluster.home, {"labelSelector": OF_CONTROL})]
    return judge.controls(CONTROL, pods)


async def _peers(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    routers = [judge.pod_of(pod) async for pod in _all(cluster, PODS, cluster.home, {"labelSelector": OF_ROUTERS})]
    seen.pods += routers
    config_map = await _one(cluster, path(CONFIGMAPS, cluster.home, history.NAME))
    try:
        known = history.decoded(config_map or {})
    except history.HistoryError as error:
        return [Finding(PEERS, False, f"{error}: delete the ConfigMap, routers write it anew")]
    findings = judge.routers(PEERS, routers, known.records)
    if cluster.inside:
        members = [(pod, member.address) for pod, record in known.records.items() for member in record.part.members]
        targets = [(pod, address) for pod, text in members if isinstance(address := _address(text), Tcp)]
        tried = await _dial_all(cluster, [(pod, address.host, address.port) for pod, address in targets])
        findings += judge.dialled(PEERS, "workers of routers", tried, "let routers connect to each other on every port")
    return findings


async def _issuer(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    """Token issuer: the leader issues tokens, routers verify them with its published keys."""
    lease = await _one(cluster, path(LEASES, cluster.home, LEASE))
    renewed_at = _moment((lease or {}).get("spec", {}).get("renewTime"))
    findings = [judge.leader(ISSUER, lease, cluster.now(), renewed_at)]
    link = (lease or {}).get("metadata", {}).get("annotations", {}).get(LINK, "")
    if cluster.inside and isinstance(address := _address(link), Tcp):
        tried = await _dial_all(cluster, [("the leader", address.host, address.port)])
        findings += judge.dialled(ISSUER, "leader", tried, "let routers connect to scorefront-control on port 8083")
    published = await _one(cluster, path(CONFIGMAPS, cluster.home, TRUST))
    keys, error = _trusted(published)
    return [*findings, judge.trust(ISSUER, keys, error, judge.wants_tokens(seen.endpoints))]


def _trusted(config_map: Document | None) -> tuple[int, str]:
    """(number of keys, problem of the ConfigMap)."""
    if config_map is None:
        return 0, ""
    try:
        return len(msgspec.json.decode(config_map.get("data", {}).get("trust.json", ""), type=TokenTrust).keys), ""
    except msgspec.DecodeError as error:
        return 0, str(error)


async def _models(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    pods: list[tuple[Pod, int]] = []
    for namespace in cluster.watched:
        async for document in _all(cluster, PODS, namespace, {"labelSelector": ENDPOINT}):
            pods.append((judge.pod_of(document), _port(document)))
    for endpoint in seen.endpoints:
        pods += [each async for each in _adopted(cluster, endpoint)]
    seen.pods += [pod for pod, _ in pods]
    findings = judge.models(MODELS, len(seen.endpoints), [pod for pod, _ in pods])
    if cluster.inside:
        ready = [(pod.name, pod.ip, port) for pod, port in pods if pod.ready and pod.ip and not pod.leaving]
        ready += [("a static replica", *address) for address in _static(seen.endpoints)]
        tried = await _dial_all(cluster, ready[:: max(1, -(-len(ready) // MOST_DIALLED))])
        findings += judge.dialled(MODELS, "model pods", tried, "let routers connect to pods of models")
    return findings


async def _adopted(cluster: Cluster, endpoint: Document) -> AsyncIterator[tuple[Pod, int]]:
    """The pods of workloads that exist already, by the selectors in the endpoint's status."""
    selectors = selectors_of(endpoint)
    namespace = endpoint["metadata"].get("namespace")
    for version in endpoint["spec"].get("versions", ()):
        replica = version.get("replica", {})
        if replica.get("workloadRef") and (selector := selectors.get(version["name"])):
            async for document in _all(cluster, PODS, namespace, {"labelSelector": selector}):
                yield judge.pod_of(document), replica.get("port") or DEFAULT_PORT


def _port(pod: Document) -> int:
    """Serving port of a pod: the port named scoring of its first container, or the first port."""
    ports = [port for container in pod["spec"].get("containers", ()) for port in container.get("ports", ())]
    named = [port for port in ports if port.get("name") == "scoring"]
    return next((int(port["containerPort"]) for port in [*named, *ports]), DEFAULT_PORT)


def _static(endpoints: Iterable[Document]) -> Iterable[tuple[str, int]]:
    for endpoint in endpoints:
        for version in endpoint["spec"].get("versions", ()):
            for text in version.get("replica", {}).get("static") or ():
                host, _, port = text.rpartition(":")
                yield host.strip("[]"), int(port)


async def _registry(cluster: Cluster, seen: ClusterFindings) -> list[Finding]:
    declared = judge.images_declared(seen.endpoints)
    declared |= {image for pod in seen.pods for image in pod.images}
    hosts = sorted({judge.registry_of(image) for image in declared})
    errors = await asyncio.gather(*(_error_of(cluster.ask(f"https://{host}/v2/")) for host in hosts))
    findings = []
    for host, error in zip(hosts, errors, strict=True):
        from_it = [pod for pod in seen.pods if host in {judge.registry_of(image) for image in pod.images}]
        stuck = [pod.name for pod in from_it if pod.pulls]
        findings.append(judge.registry(REGISTRY, host, error, any(pod.running for pod in from_it), stuck))
    return findings


NAME, SERVER, READ = "DNS for the API server", "API server", "list and watch"
RIGHTS, CONTROL = "rights", "control"
PEERS, ISSUER, MODELS, REGISTRY = "peers", "token issuer", "model pods", "registry"
STEPS: tuple[tuple[str, Step, bool], ...] = (
    (NAME, _name, True),
    (SERVER, _server, True),
    (READ, _read, False),
    (RIGHTS, _rights, False),
    (CONTROL, _control, False),
    (PEERS, _peers, False),
    (ISSUER, _issuer, False),
    (MODELS, _models, False),
    (REGISTRY, _registry, False),
)
"""(name, what is tried, whether nothing further can be tried where it fails)."""


# ---- reading


async def _all(
    cluster: Cluster, resource: Resource, namespace: str | None, query: dict[str, str]
) -> AsyncIterator[Document]:
    """Every object of a list, page by page. Raises ApiError."""
    further = ""
    while True:
        asked = {**query, "limit": PAGE, **({"continue": further} if further else {})}
        page = await cluster.get(path(resource, namespace), asked)
        for item in page.get("items", ()):
            yield item
        further = page.get("metadata", {}).get("continue", "")
        if not further:
            return


async def _one(cluster: Cluster, where: str) -> Document | None:
    try:
        return await cluster.get(where, {})
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _dial_all(cluster: Cluster, targets: Sequence[tuple[str, str, int]]) -> list[Dialled]:
    errors = await asyncio.gather(*(_error_of(cluster.dial(host, port)) for _, host, port in targets))
    return [Dialled(who, f"{host}:{port}", error) for (who, host, port), error in zip(targets, errors, strict=True)]


async def _error_of(attempt: Awaitable[None]) -> str:
    try:
        await attempt
    except OSError as error:
        return _text(error)
    return ""


def _text(error: OSError) -> str:
    return (error.strerror or str(error) or type(error).__name__).lower()


def _address(text: str) -> object:
    try:
        return parse_address(text)
    except AddressError:
        return None


def _moment(text: object) -> float | None:
    """Unix seconds of a time as the API writes it."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
