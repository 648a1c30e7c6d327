"""The processes of a pod spec: argv, environment, files. Pure.

A process runs on this machine, not in a container, so two things are rewritten: a path below a mount becomes the
folder
of the played volume, and the addresses 0.0.0.0 and [::] become the pod's.
"""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
Objects = Callable[[str, str], Object | None]
"""(plural such as "secrets", name) -> the object of the pod's namespace, or None."""


class Unplayable(Exception):
    """Something that the pod asks for is not there (yet), or not played; the reason as a kubelet says it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Image:
    """Contents of an image."""

    entrypoint: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The command on this machine for the first word of a container's own command."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """A folder of its file system -> the folder here."""
    uses_api: bool = False
    """It is given a KUBECONFIG with a token of the pod's service account."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a played pod."""

    pod: Object
    ip: str
    node: str
    folders: Mapping[str, str]
    """Volume -> the folder on this machine."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One process."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def image_of(images: Mapping[str, Image], reference: str) -> Image:
    """By the last part of its name, without tag and digest. Raises Unplayable."""
    name = re.split(r"[:@]", reference.rpartition("/")[2])[0]
    if name not in images:
        raise Unplayable("ErrImagePull", f"no image {reference!r}; played are {', '.join(sorted(images))}")
    return images[name]


def recipe(container: Object, image: Image, facts: Facts, objects: Objects) -> Recipe:
    """The recipe of a container. Raises Unplayable."""
    moved, env = mounts(container, facts), environment(container, image, facts, objects)
    command = [expanded(word, env) for word in container.get("command", ())]
    words = [expanded(word, env) for word in container.get("args", ())]
    own = [placed(word, moved, facts.ip) for word in (*command, *words)]
    if command:
        argv = [*image.commands.get(command[0], own[:1]), *own[1:]]
    else:
        ports = container.get("ports") or [{}]
        known = {"{ip}": facts.ip, "{port}": str(ports[0].get("containerPort", ""))}
        argv = [*(known.get(word, placed(expanded(word, env), {}, facts.ip)) for word in image.entrypoint), *own]
    return Recipe(tuple(argv), env)


def environment(container: Object, image: Image, facts: Facts, objects: Objects) -> dict[str, str]:
    """Environment of a container: the image's, that of whole objects, then its own in order. Raises Unplayable.

    Paths of the image belong to this machine already; paths of the pod belong to the container's file system.
    """
    env = {name: placed(value, image.paths, facts.ip) for name, value in image.env.items()}
    moved = {**image.paths, **mounts(container, facts)}
    for source in container.get("envFrom", ()):
        for plural, ref in _WHOLE_REFS:
            if ref in source:
                data = contents(plural, source[ref], objects)
                env |= {
                    source.get("prefix", "") + key: placed(value.decode(), moved, facts.ip)
                    for key, value in data.items()
                }
    for entry in container.get("env", ()):
        if "valueFrom" in entry:
            value = _from(entry["valueFrom"], container, facts, objects)
            if value is not None:
                env[entry["name"]] = value
        else:
            env[entry["name"]] = expanded(placed(entry.get("value", ""), moved, facts.ip), env)
    return env


def _from(source: Object, container: Object, facts: Facts, objects: Objects) -> str | None:
    if "fieldRef" in source:
        return pod_field(source["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in source:
        ref = source["resourceFieldRef"]
        return resource(ref["resource"], container, str(ref.get("divisor", "1")))
    plural, ref = next((p, source[r]) for p, r in _KEY_REFS if r in source)
    value = contents(plural, ref, objects).get(ref["key"])
    if value is None and not ref.get("optional"):
        raise Unplayable("CreateContainerConfigError", f"no key {ref['key']!r} in {plural} {ref['name']!r}")
    return None if value is None else value.decode()


_KEY_REFS = (("configmaps", "configMapKeyRef"), ("secrets", "secretKeyRef"))
_WHOLE_REFS = (("configmaps", "configMapRef"), ("secrets", "secretRef"))


def pod_field(path: str, facts: Facts) -> str:
    """A field of the downward API. Raises Unplayable."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    if keyed:
        return str(metadata.get(keyed[1], {}).get(keyed[2], ""))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": facts.node,
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts.ip,
        "status.podIPs": facts.ip,
        "status.hostIP": "127.0.0.1",
    }
    if path not in known:
        raise Unplayable("CreateContainerConfigError", f"the field {path!r} is not played")
    return str(known[path])


def resource(name: str, container: Object, divisor: str) -> str:
    """A limit or a request, such as limits.cpu, in whole divisors. Raises Unplayable."""
    kind, _, what = name.partition(".")
    amount = container.get("resources", {}).get(kind, {}).get(what)
    if amount is None:
        raise Unplayable("CreateContainerConfigError", f"no {name} is set")
    return str(math.ceil(quantity(str(amount)) / quantity(divisor if divisor != "0" else "1")))


_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}


def quantity(text: str) -> float:
    """`250m`, `1Gi`. Raises Unplayable."""
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", text)
    if not found or found[2] not in _UNITS:
        raise Unplayable("CreateContainerConfigError", f"{text!r} is no quantity")
    return float(found[1]) * _UNITS[found[2]]


def expanded(text: str, env: Mapping[str, str]) -> str:
    """$(NAME) is replaced if the name exists; $$ stands for a $."""
    return re.sub(
        r"\$\$|\$\(([^)]+)\)",
        lambda found: "$" if found[0] == "$$" else env.get(found[1], found[0]),
        text,
    )


def mounts(container: Object, facts: Facts) -> dict[str, str]:
    """Path in the container -> path here, of the volumes that are played."""
    moved = {}
    for mount in container.get("volumeMounts", ()):
        if mount["name"] in facts.folders:
            here = facts.folders[mount["name"]]
            moved[mount["mountPath"].rstrip("/")] = "/".join(filter(None, (here, mount.get("subPath", ""))))
    return moved


def placed(text: str, moved: Mapping[str, str], ip: str) -> str:
    """With paths and the address of this machine."""
    if moved:
        paths = "|".join(re.escape(path) for path in sorted(moved, key=len, reverse=True))
        text = re.sub(rf"(?<![\w/.-])({paths})(?=$|[/:,\s])", lambda found: moved[found[1]], text)
    return text.replace("0.0.0.0", ip).replace("[::]:", f"{ip}:")


def needs(volume: Object) -> bool:
    """True if a volume is played; the service account token is not: its users have a KUBECONFIG."""
    return not volume["name"].startswith("kube-api-access-")


def files(volume: Object, facts: Facts, objects: Objects) -> dict[str, bytes] | None:
    """Files of a volume; None: not written from outside. Raises Unplayable."""
    if "emptyDir" in volume:
        return None
    if "projected" in volume:
        merged: dict[str, bytes] = {}
        for source in volume["projected"].get("sources", ()):
            merged |= _source(source, facts, objects)
        return merged
    return _source(volume, facts, objects)


def _source(source: Object, facts: Facts, objects: Objects) -> dict[str, bytes]:
    for plural, kind, name in (("configmaps", "configMap", "name"), ("secrets", "secret", "secretName")):
        if kind in source:
            ref = {**source[kind], "name": source[kind].get(name) or source[kind].get("name")}
            return chosen(contents(plural, ref, objects), ref.get("items"), bool(ref.get("optional")))
    if "downwardAPI" in source:
        items = source["downwardAPI"].get("items", ())
        return {item["path"]: pod_field(item["fieldRef"]["fieldPath"], facts).encode() for item in items}
    if "serviceAccountToken" in source:
        return {}  # its user has a KUBECONFIG with such a token
    raise Unplayable("FailedMount", f"a volume of kind {[key for key in source if key != 'name']} is not played")


def contents(plural: str, ref: Object, objects: Objects) -> dict[str, bytes]:
    """Data of a Secret or ConfigMap. Raises Unplayable if it is missing and not optional."""
    found = objects(plural, ref["name"])
    if found is None:
        if ref.get("optional"):
            return {}
        raise Unplayable("CreateContainerConfigError", f'{plural} "{ref["name"]}" not found')
    text = {key: value.encode() for key, value in found.get("data", {}).items()}
    if plural == "secrets":
        return {key: base64.b64decode(value) for key, value in text.items()}
    return text | {key: base64.b64decode(value) for key, value in found.get("binaryData", {}).items()}


def chosen(data: Mapping[str, bytes], items: Sequence[Object] | None, optional: bool = False) -> dict[str, bytes]:
    """Some keys under other names, or all of them under their own. Raises Unplayable if a key is missing."""
    if not items:
        return dict(data)
    if missing := [item["key"] for item in items if item["key"] not in data]:
        if optional:
            return {item["path"]: data[item["key"]] for item in items if item["key"] in data}
        raise Unplayable("FailedMount", f"references non-existent key: {missing[0]}")
    return {item["path"]: data[item["key"]] for item in items}


def referred(pod: Object) -> set[tuple[str, str]]:
    """(plural, name) of every Secret and ConfigMap that a pod names."""
    found: set[tuple[str, str]] = set()
    spec = pod["spec"]
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        for source in container.get("envFrom", ()):
            found |= {(plural, source[ref]["name"]) for plural, ref in _WHOLE_REFS if ref in source}
        for entry in container.get("env", ()):
            found |= {
                (plural, entry["valueFrom"][ref]["name"])
                for plural, ref in _KEY_REFS
                if ref in entry.get("valueFrom", {})
            }
    for volume in filter(needs, spec.get("volumes", ())):
        for source in (volume, *volume.get("projected", {}).get("sources", ())):
            if "configMap" in source:
                found.add(("configmaps", source["configMap"]["name"]))
            if "secret" in source:
                found.add(("secrets", source["secret"].get("secretName") or source["secret"]["name"]))
    return found
