"""Failed requests that a worker keeps, with and without an access log."""

from serving.endpoint import Auth
from tests.integration.router.clients import get, request
from tests.integration.router.replicas import answers
from tests.integration.router.rig import Rig, endpoint, version

SECRET = "a-key-that-is-wrong"


async def test_failures_of_the_model_and_refusals_are_kept_without_query_and_credential(rig: Rig) -> None:
    await rig.replica(answers(b"trace", status="500 Oops"))
    client = await rig.client()
    failed = await client.ask(request(b'{"name": "Ann"}', path="/api/v1/service/iris/score?token=secret"))
    await client.ask(get("/api/v1/service/none/score"))
    assert failed.status == 502
    (kept,) = rig.gateway.failures.of("iris", 10)
    assert (kept.status, kept.code, kept.version, kept.path) == (
        502,
        "ModelError",
        "blue",
        "/api/v1/service/iris/score",
    )
    assert kept.request_id == failed.value("x-ms-request-id") and kept.seconds >= 0
    rig.declare(endpoint(version(), auth=Auth.KEY))
    rig.lock("the-right-key-of-iris")
    refused = await client.ask(request(fields=(f"Authorization: Bearer {SECRET}",)))
    newest, *_ = rig.gateway.failures.of("iris", 10)
    assert (refused.status, newest.code, newest.version) == (401, "Unauthorized", "")
    everything = repr(rig.gateway.failures.of("iris", 10))
    assert SECRET not in everything and "secret" not in everything and "Ann" not in everything


async def test_answered_requests_are_not_kept(rig: Rig) -> None:
    await rig.replica(answers(b"fine"))
    client = await rig.client()
    assert (await client.ask(request())).status == 200
    assert rig.gateway.failures.of("iris", 10) == []
