"""Services of every kind: state, logs, keys, scoring, deletion."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self, cast
from urllib.parse import quote, urlsplit

from scorefront.http_client import ServerTrust, ServerUnreachable, UnusableAuthority, read_whole, sent
from scorefront.sdk.control_connection import ConnectedWorkspace
from scorefront.sdk.exceptions import WebserviceException
from scorefront.sdk.service_parts import time_of
from scorefront.sdk.service_rules import service_name_fault
from scorefront.sdk.waiting import wait_for_operation

SCORING_TIMEOUT_S = 660.0
"""More than the longest that a router may take."""
KEY_TYPES = ("Primary", "Secondary")


class Webservice:
    """A deployed service. `Webservice(workspace, name)` is an AksWebservice or an AksEndpoint."""

    _kind: ClassVar[str] = ""
    _classes: ClassVar[dict[str, type["Webservice"]]] = {}
    _content: dict[str, Any]

    def __init_subclass__(cls, kind: str) -> None:
        """`kind`: `computeType` of the services of this class."""
        cls._kind = kind
        Webservice._classes[kind] = cls

    def __new__(cls, workspace: ConnectedWorkspace, name: str) -> Self:
        """The service of that name.

        workspace: of the service. name: of the service. Raises WebserviceException.
        """
        found = _found(workspace, name)
        made = cls._classes.get(str(found.get("computeType")).upper())
        if made is None or not issubclass(made, cls):
            raise WebserviceException(f"service {name} is of type {found.get('computeType')}, not {cls.__name__}")
        return cast(Self, made.made_of(workspace, found))

    def __init__(self, workspace: ConnectedWorkspace, name: str) -> None:
        """The service of that name.

        workspace: of the service. name: of the service. Raises WebserviceException.
        """

    @classmethod
    def made_of(cls, workspace: ConnectedWorkspace, content: dict[str, Any], operation: str = "") -> "Webservice":
        """The service of an answer of the control plane.

        workspace: of the service. content: service object.
        operation: id of the operation that deploys it; default: the one in the object.
        """
        kind = cls._classes.get(str(content.get("computeType")).upper())
        if kind is None:
            raise WebserviceException(f"service {content.get('name')}: unknown type {content.get('computeType')!r}")
        made = object.__new__(kind)
        made.workspace = workspace
        made._operation = operation
        made._take(content)
        return made

    workspace: ConnectedWorkspace
    _operation: str

    def _take(self, content: dict[str, Any]) -> None:
        self._content = content
        self.name = str(content["name"])
        self.state: str | None = content.get("state")
        self.error: dict[str, Any] | None = content.get("error")
        self.description: str | None = content.get("description")
        self.tags: dict[str, str] = dict(content.get("kvTags") or {})
        self.properties: dict[str, str] = dict(content.get("properties") or {})
        self.compute_type: str | None = content.get("computeType")
        self.compute_name: str | None = content.get("computeName")
        self.scoring_uri: str | None = content.get("scoringUri")
        self.swagger_uri: str | None = content.get("swaggerUri")
        self.auth_enabled: bool | None = content.get("authEnabled")
        self.token_auth_enabled: bool | None = content.get("aadAuthEnabled")
        self.created_time = time_of(content.get("createdTime"))
        self.updated_time = time_of(content.get("updatedTime"))
        self._operation = self._operation or str(content.get("operationId") or "")

    @staticmethod
    def list(
        workspace: ConnectedWorkspace,
        compute_type: str | None = None,
        image_name: str | None = None,
        image_id: str | None = None,
        model_name: str | None = None,
        model_id: str | None = None,
        tags: Iterable[Any] | None = None,
        properties: Iterable[Any] | None = None,
        image_digest: str | None = None,
    ) -> "list[Webservice]":
        """Services that fit all filters.

        workspace: of the services. compute_type: AKS or AKSENDPOINT.
        model_name, model_id: of a model that the service was deployed with; the id is `name:version`.
        tags, properties: keys, or [key, value] pairs.
        image_name, image_id, image_digest: no service has an image, so that none fits.
        Raises WebserviceException.
        """
        query = {
            **{"expand": True, "computeType": compute_type, "modelName": model_name, "modelId": model_id},
            **{"imageName": image_name, "imageId": image_id, "imageDigest": image_digest},
            **{"tags": _pairs(tags), "properties": _pairs(properties)},
        }
        path = workspace.connection.management("/services")
        found = workspace.connection.call("GET", path, None, query, WebserviceException)
        return [Webservice.made_of(workspace, each) for each in found["value"]]

    # ---- state

    @property
    def operation_id(self) -> str:
        """Id of the last deployment or change; "": none is known."""
        return self._operation

    def update_deployment_state(self) -> None:
        """Read the service again: state, attributes."""
        self._take(_found(self.workspace, self.name))

    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until the last deployment or change has ended.

        show_output: True to print the steps with their times.
        timeout_sec: longest wait in seconds; default: unlimited.
        Raises WebserviceException with step and reason unless it has succeeded.
        """
        try:
            if self._operation:
                wait_for_operation(self.workspace.connection, self._operation, show_output, timeout_sec)
        except WebserviceException:
            with contextlib.suppress(WebserviceException):  # a service that never was
                self.update_deployment_state()
            raise
        self.update_deployment_state()
        if show_output:
            print(f"Service {self.name}: {self.state}")

    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """Output of the replicas; before it, the log of a deployment that runs or has failed.

        num_lines: last lines. init: without effect. Raises WebserviceException.
        """
        return str(self._call("GET", "/logs", query={"tail": num_lines, "init": init})["content"])

    def serialize(self) -> dict[str, Any]:
        """The service as the control plane describes it; without keys."""
        return {key: value for key, value in self._content.items() if key != "keys"}

    def delete(self) -> None:
        """Delete the service; no error if there is none. Raises WebserviceException."""
        path = self.workspace.connection.management(f"/services/{quote(self.name, safe='')}")
        self._finish(self.workspace.connection.reply("DELETE", path, error=WebserviceException).headers)
        self.state = "Deleting"

    # ---- keys and tokens

    def get_keys(self) -> tuple[str, str]:
        """Primary and secondary key. Raises WebserviceException."""
        found = self._call("POST", "/listkeys")
        return str(found["primaryKey"]), str(found["secondaryKey"])

    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Replace a key; the other one stays valid.

        key: Primary or Secondary, in any case. set_key: the new key; default: a generated one.
        Raises WebserviceException.
        """
        kind = key.capitalize() if isinstance(key, str) else ""
        if kind not in KEY_TYPES:
            raise WebserviceException(f"Error, key must be Primary or Secondary (got {key!r}).")
        path = self.workspace.connection.management(f"/services/{quote(self.name, safe='')}/regenerateKeys")
        body = {"keyType": kind, "keyValue": set_key}
        self._finish(self.workspace.connection.reply("POST", path, body, error=WebserviceException).headers)

    # ---- scoring

    def run(self, input_data: bytes | str) -> Any:
        """The decoded JSON of one scoring request; the key or token is fetched.

        input_data: body, JSON. Raises WebserviceException for a status other than 200.
        """
        reply = self._scored(input_data)
        if reply.status == 401 and (self.auth_enabled or self.token_auth_enabled):
            self._credential = None  # it was replaced meanwhile
            reply = self._scored(input_data)
        text = reply.body.decode("utf-8", "replace")
        if reply.status != 200:
            raise WebserviceException(
                f"Received bad response from service {self.name}; .get_logs() may explain it.\n"
                f"Response Code: {reply.status}\nHeaders: {dict(reply.headers)}\nContent: {text}",
                reply.status,
                reply.headers.get("x-ms-error-code", ""),
            )
        try:
            return json.loads(text)
        except ValueError:
            raise WebserviceException(f"the answer of service {self.name} is not JSON: {text[:200]!r}") from None

    _credential: str | None = None

    def _scored(self, data: bytes | str) -> Any:
        if not self.scoring_uri:
            raise WebserviceException(f"service {self.name} has no scoring_uri; it is {self.state}")
        if not isinstance(data, bytes | str):
            raise WebserviceException(
                f"input_data: must be text or bytes, e.g. json.dumps(…) (got {type(data).__name__})"
            )
        head = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._credential is None:
            self._credential = self._fetched_credential()
        if self._credential:
            head["Authorization"] = f"Bearer {self._credential}"
        body = data.encode() if isinstance(data, str) else data
        place = urlsplit(self.scoring_uri)
        base = f"{place.scheme}://{place.netloc}"
        try:
            with sent(base, "POST", place.path, head, body, SCORING_TIMEOUT_S, ServerTrust()) as response:
                return read_whole(response)
        except (ServerUnreachable, UnusableAuthority) as failure:
            raise WebserviceException(str(failure)) from None

    def _fetched_credential(self) -> str | None:
        """Key or token; None: the service has no authentication."""
        if self.token_auth_enabled:
            return str(self._call("POST", "/token")["accessToken"])
        return self.get_keys()[0] if self.auth_enabled else None

    # ---- requests

    def _call(self, method: str, rest: str = "", body: object = None, query: dict[str, object] | None = None) -> Any:
        """The decoded response about this service.

        method: of the request. rest: of the path. body: JSON; default: none. query: parameters; default: none.
        """
        path = self.workspace.connection.management(f"/services/{quote(self.name, safe='')}{rest}")
        return self.workspace.connection.call(method, path, body, query or {}, WebserviceException)

    def _patch(self, operations: Sequence[dict[str, Any]]) -> None:
        """Begin a change; `wait_for_deployment` waits for its end."""
        path = self.workspace.connection.management(f"/services/{quote(self.name, safe='')}")
        reply = self.workspace.connection.reply("PATCH", path, list(operations), error=WebserviceException)
        self._operation = operation_of(reply.headers) or self._operation
        self._credential = None
        self.update_deployment_state()

    def _finish(self, headers: Any) -> None:
        if operation := operation_of(headers):
            wait_for_operation(self.workspace.connection, operation)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, state={self.state!r}, scoring_uri={self.scoring_uri!r})"


def operation_of(headers: Any) -> str:
    """Id of the operation that a response names; "": none. `headers`: names in lower case."""
    return str(headers.get("operation-location", "")).partition("?")[0].rstrip("/").rpartition("/")[2]


def _found(workspace: ConnectedWorkspace, name: str) -> dict[str, Any]:
    if fault := service_name_fault(name):
        raise WebserviceException(fault)
    path = workspace.connection.management(f"/services/{name}")
    try:
        found: dict[str, Any] = workspace.connection.call("GET", path, None, {"expand": True}, WebserviceException)
        return found
    except WebserviceException as error:
        if error.status_code != 404:
            raise
        message = f"WebserviceNotFound: service {name} was not found in workspace {workspace.name}"
        raise WebserviceException(message, 404, "WebserviceNotFound") from None


def _pairs(wanted: Iterable[Any] | None) -> str | None:
    """Filters as in the query: `key` or `key=value`, separated by commas; None: none."""
    if wanted is None:
        return None
    return ",".join(each if isinstance(each, str) else "=".join(map(str, each)) for each in wanted)
