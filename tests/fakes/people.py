"""Callers of a Kubernetes API in memory: tokens, names, rights, and the requests with a token."""

from dataclasses import dataclass, field
from typing import Any

from cluster.kubernetes.client.api_errors import ApiError, ApiUnreachable, RequestRefused
from tests.fakes.kubernetes import FakeKubernetes
from tests.fakes.object_rules import Object

_VERBS = {"create": "create", "replace": "update", "delete": "delete"}


@dataclass
class Person:
    """Rights as (verb, resource[/subresource] or path, namespace); namespace "*" is every one and all together."""

    name: str
    rights: set[tuple[str, str, str]] = field(default_factory=set)

    def may(self, verb: str, what: str, namespace: str) -> bool:
        return bool({(verb, what, namespace), (verb, what, "*")} & self.rights)


class PeopledKubernetes(FakeKubernetes):
    """`people`: token -> person. `asked`: every (token, verb, path) with a caller's token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.people: dict[str, Person] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.admission: ApiError | None = None
        """Response of an admission policy to writes with a caller's token."""

    def with_token(self, token: str) -> "_Asked":
        return _Asked(self, token)


class _Asked:
    def __init__(self, kubernetes: PeopledKubernetes, token: str) -> None:
        self._kubernetes = kubernetes
        self._token = token

    async def create(self, where: str, body: Object, query: Any = None, urgent: bool = False) -> Object:
        person = self._person("create", where)
        if where.endswith("/selfsubjectreviews"):
            return {"status": {"userInfo": {"username": person.name}}}
        if where.endswith("/selfsubjectaccessreviews"):
            return {"status": {"allowed": _is_allowed(person, body["spec"])}}
        self._check(person, "create", where)
        return await self._kubernetes.create(where, body)

    async def replace(self, where: str, body: Object, urgent: bool = False) -> Object:
        self._check(self._person("replace", where), "replace", where)
        return await self._kubernetes.replace(where, body)

    async def delete(self, where: str, uid: str = "", resource_version: str = "", grace_s: int | None = None) -> None:
        self._check(self._person("delete", where), "delete", where)
        await self._kubernetes.delete(where, uid, resource_version, grace_s)

    def _person(self, verb: str, where: str) -> Person:
        if self._kubernetes.is_away:
            raise ApiUnreachable("nobody answers")
        self._kubernetes.asked.append((self._token, verb, where))
        person = self._kubernetes.people.get(self._token)
        if person is None:
            raise ApiError(f"{where}: 401", 401, "Unauthorized")
        return person

    def _check(self, person: Person, verb: str, where: str) -> None:
        parts = where.split("/")
        namespace, resource = parts[parts.index("namespaces") + 1], parts[parts.index("namespaces") + 2]
        if not person.may(_VERBS[verb], resource, namespace):
            raise RequestRefused(f"{where}: 403", 403, "Forbidden")
        if self._kubernetes.admission is not None:
            raise self._kubernetes.admission


def _is_allowed(person: Person, spec: Object) -> bool:
    if (url := spec.get("nonResourceAttributes")) is not None:
        return person.may(url["verb"], url["path"], "*")
    asked = spec["resourceAttributes"]
    assert asked["group"] == "scorefront.io"
    resource = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
    return person.may(asked["verb"], resource, asked["namespace"] or "*")
