"""Samples of requests, and trials of them at the routers of this machine."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from controlplane.control_errors import NoSuchVersion, RoutersUnreachable
from controlplane.endpoint_service import EndpointService
from controlplane.trial_routes import SampleAnswer, TrialAnswer, TrialRequest
from scorefront.up.sample_request import DEFAULT, described_sample, sample_file
from serving.endpoint import Auth, Endpoint, VersionKey
from serving.replica import ReplicaState

Fetch = Callable[[str, int], Awaitable[Any]]
"""(host, port) of a replica with an entry script -> its swagger.json; None if it has none."""
MAX_SHOWN_BYTES: Final = 256_000
"""Bytes of a response that are read; the rest is not."""
MAX_SAMPLE_BYTES: Final = 256_000
ONE_LINE: Final = 100
"""Characters up to which a sample is shown in one line."""
SPARE_S: Final = 10.0
"""Time beyond queue wait and scoring timeout, for the response."""


class ModelSample(NamedTuple):
    """Sample of a request body."""

    text: str
    path: Path | None
    """Its file; None: from the description of a replica, or none found."""
    is_described: bool


async def model_sample(endpoints: EndpointService, view: dict[str, Any], fetch: Fetch) -> ModelSample:
    """The sample of an endpoint: a file beside the source of the model, else out of its description.

    endpoints: finds a replica.
    view: of the endpoint.
    fetch: gets the description of a replica.
    """
    if (path := sample_file(view["spec"])) is not None:
        return ModelSample(path.read_text(), path, is_described=False)
    version = next(each for each in view["spec"]["versions"] if each["isDefault"])
    replicas = endpoints.replicas(VersionKey(view["metadata"]["name"], version["name"]))
    replica = next((each for each in replicas if each.state is ReplicaState.READY), None)
    if replica is None or "entryScript" not in version["replica"]:
        return ModelSample(DEFAULT, None, is_described=False)
    text = described_sample(await fetch(replica.host, replica.port))
    return ModelSample(text or DEFAULT, None, is_described=bool(text))


class LaptopTrials:
    """Implements `controlplane.trial_routes.EndpointTrials`: requests to the listening socket of this `up`."""

    def __init__(self, endpoints: EndpointService, scoring_url: str, fetch: Fetch) -> None:
        """Trials of `endpoints`.

        scoring_url: of the listening socket on this machine.
        fetch: gets the description of a replica.
        """
        self._endpoints = endpoints
        self._scoring_url = scoring_url
        self._fetch = fetch

    async def sample(self, name: str) -> SampleAnswer:
        """Sample for an endpoint. Raises NoSuchEndpoint."""
        found = await model_sample(self._endpoints, await self._endpoints.get(name), self._fetch)
        if found.path is None:
            return SampleAnswer(_indented(found.text), "swagger.json" if found.is_described else "")
        if len(found.text) > MAX_SAMPLE_BYTES:
            return SampleAnswer(DEFAULT, "")
        return SampleAnswer(_indented(found.text), found.path.name)

    async def send(self, request: TrialRequest) -> TrialAnswer:
        """Send one request. Raises NoSuchEndpoint, NoSuchVersion, RoutersUnreachable."""
        endpoint = self._endpoint(request)
        headers = {"Content-Type": request.content_type, **self._credential(endpoint)}
        if request.version is not None:
            headers["azureml-model-deployment"] = request.version
        begun_s = time.perf_counter()
        try:
            # The certificate is not verified: the socket is this process's own, reached by its address.
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_patience_s(endpoint))) as session,
                session.post(
                    f"{self._scoring_url}/api/v1/service/{endpoint.name}/score",
                    data=request.body,
                    headers=headers,
                    ssl=False,
                    allow_redirects=False,
                ) as response,
            ):
                body, is_whole = await _read(response.content)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise RoutersUnreachable(
                f"no response from {self._scoring_url}: {error or type(error).__name__}"
            ) from error
        return TrialAnswer(
            status=response.status,
            version=response.headers.get("azureml-model-deployment", ""),
            request_id=response.headers.get("x-ms-request-id", ""),
            error_code=response.headers.get("x-ms-error-code", ""),
            content_type=response.headers.get("Content-Type", ""),
            duration_ms=round(1000 * (time.perf_counter() - begun_s), 1),
            size_bytes=len(body),
            is_whole=is_whole,
            body=body.decode("utf-8", "replace"),
        )

    def _endpoint(self, request: TrialRequest) -> Endpoint:
        self._endpoints.keys(request.endpoint)  # raises NoSuchEndpoint
        declared = self._endpoints.declared(request.endpoint)
        assert declared is not None
        if request.version is not None and declared.endpoint.version(request.version) is None:
            raise NoSuchVersion(VersionKey(request.endpoint, request.version))
        return declared.endpoint

    def _credential(self, endpoint: Endpoint) -> dict[str, str]:
        match endpoint.auth:
            case Auth.KEY:
                return {"Authorization": f"Bearer {self._endpoints.keys(endpoint.name).primary}"}
            case Auth.TOKEN:
                return {"Authorization": f"Bearer {self._endpoints.token(endpoint.name).access_token}"}
            case _:
                return {}


async def _read(content: aiohttp.StreamReader) -> tuple[bytes, bool]:
    """The body up to MAX_SHOWN_BYTES, and True if that is all of it."""
    body = bytearray()
    while len(body) <= MAX_SHOWN_BYTES:
        piece = await content.read(MAX_SHOWN_BYTES + 1 - len(body))
        if not piece:
            return bytes(body), True
        body += piece
    return bytes(body[:MAX_SHOWN_BYTES]), False


def _patience_s(endpoint: Endpoint) -> float:
    return max(version.queue_wait_s + version.scoring_timeout_s for version in endpoint.versions) + SPARE_S


def _indented(text: str) -> str:
    """JSON in one line if it is short, else with line ends; other text as it is."""
    try:
        value = json.loads(text)
        line = json.dumps(value, ensure_ascii=False)
        return line if len(line) <= ONE_LINE else json.dumps(value, indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
