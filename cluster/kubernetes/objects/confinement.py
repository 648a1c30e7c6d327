"""Limits for pod templates: the setting SCOREFRONT_POD_TEMPLATE of an installation. Pure.

`restricted` follows the Pod Security Standards (https://kubernetes.io/docs/concepts/security/pod-security-standards/):
everything that "baseline" refuses, and everything in a template that contradicts "restricted" (a root user or group is
the image's own choice if the template sets none). In addition it refuses fields of the cluster instead of the namespace
(nodes, priorities), and fields that read a Secret or use a service account without `secretEnv` or a right of the
author.
Unknown fields of a pod are refused, so that a newer Kubernetes opens no gap.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any

from serving.faults import Fault, Path, written

SETTING = "SCOREFRONT_POD_TEMPLATE"


class PodTemplates(StrEnum):
    """The pod templates that an installation accepts."""

    OFF = "off"
    RESTRICTED = "restricted"
    ANY = "any"


OFF_RULE = f"is switched off in this installation ({SETTING}=off); use image or workloadRef"
_REFUSED = f"is refused by {SETTING}=restricted"

_POD_FIELDS = frozenset(
    {
        *("activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsConfig", "dnsPolicy"),
        *("enableServiceLinks", "hostAliases", "hostIPC", "hostNetwork", "hostPID", "hostUsers", "hostname"),
        *("imagePullSecrets", "initContainers", "nodeSelector", "os", "overhead", "readinessGates", "resourceClaims"),
        *("resources", "restartPolicy", "runtimeClassName", "schedulerName", "schedulingGates", "securityContext"),
        *("serviceAccount", "serviceAccountName", "setHostnameAsFQDN", "shareProcessNamespace", "subdomain"),
        *("terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes"),
    }
)
_CONTAINER_FIELDS = frozenset(
    {
        *("args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name"),
        *("ports", "readinessProbe", "resizePolicy", "resources", "restartPolicy", "restartPolicyRules"),
        *("securityContext", "startupProbe", "stdin", "stdinOnce", "terminationMessagePath"),
        *("terminationMessagePolicy", "tty", "volumeDevices", "volumeMounts", "workingDir"),
    }
)
_VOLUMES = frozenset({"configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"})
_PROJECTED = frozenset({"configMap", "downwardAPI", "clusterTrustBundle"})
_ENV_SOURCES = frozenset({"configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef"})
_SECURITY_FIELDS = frozenset(
    {
        *("allowPrivilegeEscalation", "appArmorProfile", "capabilities", "fsGroup", "fsGroupChangePolicy"),
        *("privileged", "procMount", "readOnlyRootFilesystem", "runAsGroup", "runAsNonRoot", "runAsUser"),
        *("seLinuxChangePolicy", "seLinuxOptions", "seccompProfile", "supplementalGroups"),
        *("supplementalGroupsPolicy", "sysctls"),
    }
)
_SYSCTLS = frozenset(
    {
        *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"),
        *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout"),
        *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"),
        *("net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
    }
)
_PROFILES = frozenset({"RuntimeDefault", "Localhost"})
_SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
_APPARMOR_NOTE = "container.apparmor.security.beta.kubernetes.io/"

Found = Iterator[tuple[Path, Any, str]]
"""(Field of the template, value, rule); the rule follows "must be" or stands alone."""


def refused(template: Mapping[str, Any], at: Path, mode: PodTemplates) -> Iterator[Fault]:
    """Every fault of a pod template; it has a `spec` with containers.

    `at`: path of the template in the document. `mode`: the setting of the installation.
    """
    if mode is PodTemplates.ANY:
        return
    if mode is PodTemplates.OFF:
        yield Fault(written(at), "a pod template", OFF_RULE)
        return
    for path, value, rule in (*_notes(template), *_pod(template["spec"])):
        yield Fault(written((*at, *path)), value, f"{_REFUSED}: {rule}")


def _notes(template: Mapping[str, Any]) -> Found:
    for name, value in _mapping(_mapping(template, "metadata"), "annotations").items():
        if name.startswith(_APPARMOR_NOTE) and not _is_sound_profile(value):
            yield ("metadata", "annotations", name), value, "must be runtime/default or localhost/..."


def _is_sound_profile(value: object) -> bool:
    return isinstance(value, str) and (value in ("", "runtime/default") or value.startswith("localhost/"))


def _pod(spec: Mapping[str, Any]) -> Found:
    at: Path = ("spec",)
    yield from _unknown(spec, _POD_FIELDS, at)
    for field in ("hostNetwork", "hostPID", "hostIPC", "automountServiceAccountToken"):
        yield from _unless(spec, field, at, _is_false, "must be false or left out")
    yield from _unless(spec, "hostUsers", at, _is_false, "must be false or left out")
    for field in ("serviceAccountName", "serviceAccount"):
        yield from _unless(spec, field, at, _one_of({"", "default"}), "must be default or left out")
    yield from _unless(
        spec, "dnsPolicy", at, lambda policy: policy != "ClusterFirstWithHostNet", "goes with the host's network"
    )
    yield from _security(spec, at)
    for index, volume in enumerate(_mappings(spec, "volumes")):
        yield from _volume(volume, (*at, "volumes", index))
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(_mappings(spec, kind)):
            yield from _container(container, (*at, kind, index))


def _volume(volume: Mapping[str, Any], at: Path) -> Found:
    yield from _unknown(volume, _VOLUMES | {"name"}, at)
    projected = _mapping(volume, "projected")
    for index, source in enumerate(_mappings(projected, "sources")):
        yield from _unknown(source, _PROJECTED, (*at, "projected", "sources", index))


def _container(container: Mapping[str, Any], at: Path) -> Found:
    yield from _unknown(container, _CONTAINER_FIELDS, at)
    yield from _security(container, at)
    for index, port in enumerate(_mappings(container, "ports")):
        for field in ("hostPort", "hostIP"):
            yield from _unless(port, field, (*at, "ports", index), lambda value: value in (0, ""), "must be left out")
    for index, variable in enumerate(_mappings(container, "env")):
        where = (*at, "env", index, "valueFrom")
        for source in sorted(_mapping(variable, "valueFrom").keys() - _ENV_SOURCES):
            yield from _unless(variable["valueFrom"], source, where, lambda _: False, _SECRETS)
    for index, whole in enumerate(_mappings(container, "envFrom")):
        yield from _unless(whole, "secretRef", (*at, "envFrom", index), lambda _: False, _SECRETS)
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from _handler(_mapping(container, field), (*at, field))
    for hook in ("postStart", "preStop"):
        yield from _handler(_mapping(_mapping(container, "lifecycle"), hook), (*at, "lifecycle", hook))


_SECRETS = "name Secrets in replica.secretEnv, where the author's right to read them is asked for"


def _handler(handler: Mapping[str, Any], at: Path) -> Found:
    """Faults of a probe or hook with a host: the kubelet would connect to it."""
    for action in ("httpGet", "tcpSocket"):
        yield from _unless(_mapping(handler, action), "host", (*at, action), _one_of({""}), "must be left out")


def _security(owner: Mapping[str, Any], at: Path) -> Found:
    """`securityContext` of a pod or a container."""
    context, at = _mapping(owner, "securityContext"), (*at, "securityContext")
    yield from _unknown(context, _SECURITY_FIELDS, at)
    for field in ("privileged", "allowPrivilegeEscalation"):
        yield from _unless(context, field, at, _is_false, "must be false or left out")
    yield from _unless(context, "runAsNonRoot", at, lambda value: value is True, "must be true or left out")
    yield from _unless(context, "runAsUser", at, _is_no_root, "must be above 0 or left out")
    yield from _unless(context, "procMount", at, _one_of({"Default"}), "must be Default or left out")
    yield from _unless(_mapping(context, "capabilities"), "add", (*at, "capabilities"), _adds_little, _CAPABILITIES)
    for profile in ("seccompProfile", "appArmorProfile"):
        yield from _unless(
            _mapping(context, profile),
            "type",
            (*at, profile),
            _one_of(_PROFILES),
            "must be RuntimeDefault or Localhost",
        )
    options = _mapping(context, "seLinuxOptions")
    for field in ("user", "role"):
        yield from _unless(options, field, (*at, "seLinuxOptions"), _one_of({""}), "must be left out")
    yield from _unless(options, "type", (*at, "seLinuxOptions"), _one_of(_SELINUX_TYPES), "must be a container's")
    for index, sysctl in enumerate(_mappings(context, "sysctls")):
        yield from _unless(sysctl, "name", (*at, "sysctls", index), _one_of(_SYSCTLS), "must be a safe one")


_CAPABILITIES = "may hold NET_BIND_SERVICE alone"


def _adds_little(capabilities: object) -> bool:
    return isinstance(capabilities, list) and all(each == "NET_BIND_SERVICE" for each in capabilities)


def _one_of(choices: Collection[str]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _is_false(value: object) -> bool:
    return value is False


def _is_no_root(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _unless(fields: Mapping[str, Any], name: str, at: Path, fits: Callable[[Any], bool], rule: str) -> Found:
    """A fault if the value of the field breaks the rule; null is the same as absent."""
    value = fields.get(name)
    if value is not None and not fits(value):
        yield (*at, name), _shown(value), rule


def _unknown(fields: Mapping[str, Any], known: frozenset[str], at: Path) -> Found:
    for name in fields:
        if name not in known and fields[name] is not None:
            yield (*at, name), _shown(fields[name]), f"allowed here: {', '.join(sorted(known))}"


def _shown(value: object) -> object:
    """The type of a mapping or list instead of its content, which may be secret."""
    return f"a {'mapping' if isinstance(value, dict) else 'list'}" if isinstance(value, dict | list) else value


def _mapping(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A nested mapping; empty if absent. The API server refuses other types."""
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _mappings(fields: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A nested list of mappings; other items count as empty ones."""
    value = fields.get(name)
    return [each if isinstance(each, dict) else {} for each in value] if isinstance(value, list) else []
