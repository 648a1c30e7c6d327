"""Observations to findings: `ok`, or one sentence with the remedy. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_NAMED = 10
"""Maximum number of problems of one kind that are named."""
DOCKER_HUB = "registry-1.docker.io"

WAITING_FOR_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName"})
BROKEN = frozenset({"CrashLoopBackOff", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    """The step of the way, e.g. `list and watch`."""
    ok: bool
    text: str
    """The observation; if not ok, the problem and its remedy."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """One connection attempt; `error` is empty if it succeeded."""

    who: str
    address: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """The relevant fields of a pod."""

    name: str
    """namespace/name."""
    ip: str
    ready: bool
    leaving: bool
    running: bool
    images: tuple[str, ...]
    trouble: str
    """Reason of Kubernetes for a container that does not start or a pod without a node; else empty."""
    pulls: bool
    """The trouble is with its image."""


def pod_of(document: Mapping[str, Any]) -> Pod:
    """A pod as the API gives it."""
    metadata, spec, status = document["metadata"], document.get("spec", {}), document.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    states = [each.get("state", {}) for each in status.get("containerStatuses", ())]
    waiting = [state["waiting"] for state in states if "waiting" in state]
    reasons = [each for each in waiting if each.get("reason") in WAITING_FOR_IMAGE | BROKEN]
    scheduled = conditions.get("PodScheduled", {})
    trouble = ""
    if reasons:
        trouble = _said(reasons[0])
    elif status.get("phase") == "Failed":
        trouble = _said({"reason": status.get("reason", "Failed"), "message": status.get("message", "")})
    elif scheduled.get("status") == "False":
        trouble = _said(scheduled)
    return Pod(
        name=f"{metadata.get('namespace', '')}/{metadata['name']}",
        ip=status.get("podIP", ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        leaving="deletionTimestamp" in metadata,
        running=bool(states) and all("running" in state for state in states),
        images=tuple(each["image"] for each in spec.get("containers", ()) if "image" in each),
        trouble=trouble,
        pulls=any(each.get("reason") in WAITING_FOR_IMAGE for each in reasons),
    )


def _said(state: Mapping[str, Any]) -> str:
    message = " ".join(str(state.get("message", "")).split())
    return f"{state.get('reason', 'unknown')}{f' ({message[:200]})' if message else ''}"


def dns(check: str, host: str, addresses: Sequence[str], error: str = "") -> Finding:
    """A host's name was looked up."""
    if error:
        return Finding(check, False, f"{host} is not resolved ({error}): fix DNS (CoreDNS, the network's, or a VPN)")
    return Finding(check, True, f"{host} is {'an address' if host in addresses else ', '.join(addresses)}")


def api_server(check: str, server: str, version: str, error: str = "") -> Finding:
    """The API server was asked for its version."""
    if error:
        advice = "let connections through to it, and check the credentials"
        return Finding(check, False, f"{server} does not answer ({error}): {advice}")
    return Finding(check, True, f"{server} answers, {version}")


def readable(check: str, what: str, where: str, error: str = "", status: int = 0) -> Finding:
    """Something was listed and watched. `status` of the API's refusal, if it was one."""
    subject = f"{what} in {where}"
    if not error:
        return Finding(check, True, subject)
    if status == 404:
        return Finding(check, False, f"{subject}: not there: apply deploy/ first (its CRD, its Deployments)")
    if status in (401, 403):
        return Finding(check, False, f"{subject}: not allowed ({error}): bind the roles of deploy/base/rbac.yaml there")
    return Finding(check, False, f"{subject}: {error}: let lists and long watches through (proxies, firewalls)")


def rights(check: str, account: str, count: int, missing: Sequence[str]) -> list[Finding]:
    """The rights of a service account.

    check: name of the step.
    account: its user name.
    count: number of rights that it needs.
    missing: those that it does not have, as text.
    """
    advice = "apply deploy/base/rbac.yaml, and bind its ClusterRoles in every namespace with endpoints"
    findings = [Finding(check, False, f"{account} may not {each}: {advice}") for each in missing[:MOST_NAMED]]
    if len(missing) > MOST_NAMED:
        findings.append(Finding(check, False, f"{account}: {len(missing) - MOST_NAMED} more rights are missing"))
    return findings or [Finding(check, True, f"{account} has all {count} rights")]


def rights_unknown(check: str, account: str, caller: str) -> Finding:
    """The rights of a service account could not be asked for."""
    advice = "run the doctor with a kubeconfig that may create subjectaccessreviews"
    return Finding(check, True, f"{account}: not checked, {caller or 'this user'} may not ask for it; {advice}")


def controls(check: str, pods: Sequence[Pod]) -> list[Finding]:
    """The pods of the control plane; a standby is ready, too."""
    staying = [pod for pod in pods if not pod.leaving]
    if not staying:
        return [Finding(check, False, "there is no control pod: see why the Deployment scorefront-control has none")]
    findings = [Finding(check, False, f"{pod.name}: {pod.trouble}") for pod in staying if pod.trouble]
    for pod in [pod for pod in staying if not pod.ready and not pod.trouble]:
        namespace, _, name = pod.name.partition("/")
        where = f"/api/v1/namespaces/{namespace}/pods/https:{name}:8081/proxy/readyz"
        findings.append(Finding(check, False, f"{pod.name} is not ready: `kubectl get --raw {where}` says why"))
    return findings or [Finding(check, True, f"{len(staying)} of {len(staying)} control pods ready")]


def routers(check: str, pods: Sequence[Pod], said: Iterable[str]) -> list[Finding]:
    """Router pods and their presence in the membership (`said`: names or uids of pods)."""
    staying = [pod for pod in pods if not pod.leaving]
    if not staying:
        return [Finding(check, False, "there is no router pod: apply deploy/, or see why scorefront-router has none")]
    findings = [Finding(check, False, f"{pod.name}: {pod.trouble}") for pod in staying if pod.trouble]
    ready, parts = sum(pod.ready for pod in staying), len(set(said))
    if not ready:
        text = "no router pod is ready: read its log (kubectl logs deployment/scorefront-router)"
        return [*findings, Finding(check, False, text)]
    if parts < ready:
        text = f"{ready} routers are ready, but {parts} stand in the ConfigMap scorefront-routers: let routers write it"
        return [*findings, Finding(check, False, text)]
    return [*findings, Finding(check, True, f"{ready} of {len(staying)} routers ready, {parts} in the membership")]


def dialled(check: str, what: str, tried: Sequence[Dialled], advice: str) -> list[Finding]:
    """Several of one kind were to be reached; those that were not are named, the first of them."""
    failed = [each for each in tried if each.error]
    findings = [
        Finding(check, False, f"{each.who} at {each.address} is not reached ({each.error}): {advice}")
        for each in failed[:MOST_NAMED]
    ]
    if len(failed) > MOST_NAMED:
        findings.append(Finding(check, False, f"{len(failed) - MOST_NAMED} more {what} are not reached either"))
    if tried and not failed:
        findings.append(Finding(check, True, f"{len(tried)} of {len(tried)} {what} reached"))
    return findings


def leader(check: str, lease: Mapping[str, Any] | None, now: float, renewed_at: float | None) -> Finding:
    """The Lease of the control plane. `now`, `renewed_at`: unix seconds of one clock."""
    advice = "see why scorefront-control has no ready pod"
    if lease is None:
        return Finding(check, False, f"no control plane has ever led: {advice}")
    spec = lease.get("spec", {})
    holder = spec.get("holderIdentity") or ""
    if not holder:
        return Finding(check, False, f"no control plane leads: {advice}")
    age_s = now - renewed_at if renewed_at is not None else float("inf")
    # Clocks without synchronization are often a minute apart; that is harmless here.
    if age_s > float(spec.get("leaseDurationSeconds", 15)) + 60:
        return Finding(check, False, f"{holder} has led, but was last heard {age_s:.0f} s ago: {advice}")
    return Finding(check, True, f"{holder} leads")


def trust(check: str, keys: int, error: str, needed: bool) -> Finding:
    """The keys that routers check tokens with. `needed`: some endpoint asks for tokens."""
    if error:
        advice = "delete it, the leader writes it anew"
        return Finding(check, False, f"the ConfigMap scorefront-trust cannot be used ({error}): {advice}")
    if keys == 0 and needed:
        return Finding(check, False, "an endpoint wants tokens, but no issuer's key is known: see the leader's log")
    return Finding(check, True, f"{keys} key{'' if keys == 1 else 's'} to check tokens with")


def models(check: str, endpoints: int, pods: Sequence[Pod]) -> list[Finding]:
    """Pods of models, judged by their status."""
    staying = [pod for pod in pods if not pod.leaving]
    sick = [pod for pod in staying if pod.trouble]
    findings = [Finding(check, False, f"{pod.name}: {pod.trouble}") for pod in sick[:MOST_NAMED]]
    if len(sick) > MOST_NAMED:
        findings.append(Finding(check, False, f"{len(sick) - MOST_NAMED} more pods do not start"))
    if not sick:
        ready = sum(pod.ready for pod in staying)
        text = f"{ready} of {len(staying)} pods ready, for {endpoints} endpoint{'' if endpoints == 1 else 's'}"
        findings.append(Finding(check, True, text))
    return findings


def registry_of(image: str) -> str:
    """Registry host (and port) of an image: the part before the first slash, if it is a host."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if is_host and first not in ("docker.io", "index.docker.io") else DOCKER_HUB


def images_declared(endpoints: Iterable[Mapping[str, Any]]) -> set[str]:
    """The images that ScoringEndpoints, as the API gives them, name."""
    found: set[str] = set()
    for endpoint in endpoints:
        for version in endpoint.get("spec", {}).get("versions", ()):
            replica = version.get("replica", {})
            containers = (replica.get("podTemplate") or {}).get("spec", {}).get("containers", ())
            named = [replica.get("image"), *(container.get("image") for container in containers)]
            found |= {image for image in named if image}
    return found


def registry(check: str, host: str, error: str, in_use: bool, stuck: Sequence[str]) -> Finding:
    """A registry was dialled. `in_use`: a pod runs with an image of it; `stuck`: pods that wait for one."""
    if stuck:
        advice = "check the image's name, imagePullSecrets and the nodes' way to it"
        return Finding(check, False, f"{host}: {', '.join(stuck[:3])} cannot pull: {advice}")
    if not error:
        return Finding(check, True, f"{host} answers")
    if in_use:
        return Finding(check, True, f"{host} does not answer here ({error}), yet pods run with images of it")
    return Finding(check, False, f"{host} is not reached ({error}): let nodes resolve it and connect to it")


def wants_tokens(endpoints: Iterable[Mapping[str, Any]]) -> bool:
    """True if any endpoint uses token authentication."""
    return any(endpoint.get("spec", {}).get("tokenAuthEnabled") for endpoint in endpoints)


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as plain data: overall result, and each finding."""
    checks = [{"check": each.check, "ok": each.ok, "text": each.text} for each in findings]
    return {"ok": all(each.ok for each in findings), "checks": checks}
