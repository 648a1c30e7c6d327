"""Shapes of open-loop load: their rates, their arrivals, and the settings of a run."""

import random
from pathlib import Path

import pytest

from autoscaler.simulation.trace import TracedRequest
from loadtests.arrivals import SHAPES, InvalidLoad, LoadShape, load_shape
from loadtests.load_settings import load_settings
from tests.fakes.http_server import answer_json, scripted_server

NOWHERE = "http://127.0.0.1:9/score"


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("steady", [100, 100, 100, 100]),
        ("soak", [100, 100, 100, 100]),
        ("step", [20, 40, 60, 100]),
        ("ramp", [10, 32.5, 55, 97.75]),
        ("spike", [10, 10, 100, 10]),
    ],
)
def test_the_rate_follows_the_shape(name: str, rates: list[float]) -> None:
    shape = LoadShape(name, 100.0, 40.0)
    assert [shape.rate_at(at_s) for at_s in (0.0, 10.0, 20.0, 39.0)] == pytest.approx(rates)


@pytest.mark.parametrize("name", SHAPES)
def test_there_are_as_many_arrivals_as_the_rate_says(name: str) -> None:
    shape, draw = LoadShape(name, 50.0, 200.0), random.Random(1)
    expected = sum(shape.rate_at(step / 10) for step in range(2000)) / 10
    for gap in (lambda: 1.0, lambda: draw.expovariate(1.0)):
        arrivals = list(shape.arrivals(gap))
        assert arrivals == sorted(arrivals) and arrivals[0] == 0.0 and arrivals[-1] < 200.0
        assert len(arrivals) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("wave", "1", "1"), "SCOREFRONT_SHAPE: must be one of steady, step, ramp, spike, soak, or trace:FILE"),
        (("ramp", "0", "1"), r"SCOREFRONT_RATE: must be a number above 0, at most 1000000 \(got '0'\)"),
        (("ramp", "1", "long"), "SCOREFRONT_SECONDS"),
    ],
)
def test_a_wrong_shape_is_refused(shape: tuple[str, str, str], message: str) -> None:
    with pytest.raises(InvalidLoad, match=message):
        load_shape(*shape)


# ---- settings


def test_without_a_shape_users_send_in_a_closed_loop() -> None:
    settings = load_settings({"SCOREFRONT_KEY": "k" * 16}, NOWHERE)
    assert settings.arrivals is None
    assert settings.headers["Authorization"] == f"Bearer {'k' * 16}"
    assert (settings.payload, settings.thresholds) == ('{"data": []}', {})


def test_a_token_is_preferred_to_a_key() -> None:
    environ = {"SCOREFRONT_KEY": "key", "SCOREFRONT_SCORING_TOKEN": "token"}
    assert load_settings(environ, NOWHERE).headers["Authorization"] == "Bearer token"


def test_the_payload_is_the_sample_of_the_description() -> None:
    schema = {"type": "object", "properties": {"data": {"example": [[1, 2]]}}}
    body = {"requestBody": {"content": {"application/json": {"schema": schema}}}}
    with scripted_server() as server:
        server.on("GET /api/v1/service/iris/swagger.json", answer_json({"paths": {"/score": {"post": body}}}))
        settings = load_settings({"SCOREFRONT_KEY": "key"}, f"{server.url}/api/v1/service/iris/score")
        assert settings.payload == '{"data": [[1, 2]]}'
        assert server.asked[0].headers["authorization"] == "Bearer key"


def test_a_trace_gives_arrivals_and_service_times(tmp_path: Path) -> None:
    trace, payload = tmp_path / "trace.csv", tmp_path / "payload.json"
    trace.write_text("arrival,service_ms\n1,250\n0,\n")
    payload.write_text('{"ms": {service_ms}}')
    settings = load_settings({"SCOREFRONT_SHAPE": f"trace:{trace}", "SCOREFRONT_PAYLOAD": str(payload)}, NOWHERE)
    assert settings.arrivals == (TracedRequest(0.0), TracedRequest(1.0, 0.25))
    assert [settings.body(each) for each in settings.arrivals] == ['{"ms": 0}', '{"ms": 250}']


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SCOREFRONT_SHAPE": "trace:none.csv"}, "trace:none.csv: No such file"),
        ({"SCOREFRONT_PAYLOAD": "none.json"}, "SCOREFRONT_PAYLOAD: none.json"),
        ({"SCOREFRONT_MAX_P99_MS": "fast"}, "SCOREFRONT_MAX_P99_MS: must be a number above 0"),
        ({"SCOREFRONT_RATE": "-1"}, "SCOREFRONT_RATE"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidLoad, match=message):
        load_settings(environ, NOWHERE)


def test_the_host_must_be_a_url() -> None:
    with pytest.raises(InvalidLoad, match="--host: must be the scoring URL"):
        load_settings({}, "")
