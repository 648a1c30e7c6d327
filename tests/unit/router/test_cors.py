"""Requests of browsers from other origins."""

import pytest

from router.core.cors import CorsRule
from router.core.header_fields import Field
from serving.endpoint import Cors


def rule(*origins: str, headers: tuple[str, ...] = ("Authorization", "Content-Type")) -> CorsRule:
    return CorsRule(Cors(origins, headers, 600))


def fields(**values: str) -> list[Field]:
    return [(name.replace("_", "-").encode(), name.encode(), value.encode()) for name, value in values.items()]


def lines(raw: bytes) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in raw.decode().split("\r\n")[:-1])


@pytest.mark.parametrize(
    ("declared", "origin"),
    [
        *(("https://app.example.com", "https://app.example.com"), ("http://localhost:3000", "http://localhost:3000")),
        *(("https://*.example.com", "https://a.example.com"), ("https://*.example.com", "https://a.b.example.com")),
        *(("https://*.example.com:8443", "https://a.example.com:8443"), ("*", "https://any.example"), ("*", "null")),
        *(("https://a.example:443", "https://a.example"), ("http://a.example:80", "http://a.example")),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ],
)
def test_a_declared_origin_is_allowed(declared: str, origin: str) -> None:
    assert rule("https://other.example", declared).allows(origin.encode()) or rule(declared).allows(origin.encode())


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "http://app.example.com", "https://app.example.com:8443", "https://app.example.com.evil.example"),
        *("https://evilexample.org", "https://example.org", "https://.example.org", "http://a.example.org"),
        *(
            "https://a.example.org:444",
            "https://evil.example/.example.org",
            "https://u@a.example.org",
            "https://*.example.org",
        ),
    ],
)
def test_any_other_origin_is_not_allowed(origin: str) -> None:
    assert not rule("https://app.example.com", "https://*.example.org").allows(origin.encode())


def test_a_response_names_its_one_origin_and_varies() -> None:
    cors = rule("https://a.example", "https://b.example")
    assert lines(cors.response_lines(b"https://b.example"))["Access-Control-Allow-Origin"] == "https://b.example"
    for origin in (b"https://a.example", b"https://c.example", b""):
        assert lines(cors.response_lines(origin))["Vary"] == "Origin"
    assert "Access-Control-Allow-Origin" not in lines(cors.response_lines(b"https://c.example"))
    assert lines(rule("*").response_lines(b"https://c.example"))["Access-Control-Allow-Origin"] == "*"


def test_a_preflight_is_told_what_is_allowed() -> None:
    cors = rule("https://a.example")
    asked = fields(origin="https://a.example", access_control_request_method="POST")
    assert lines(cors.preflight_lines(asked)) == {
        "Allow": "GET, HEAD, POST, OPTIONS",
        "Access-Control-Allow-Origin": "https://a.example",
        "Access-Control-Allow-Methods": "GET, HEAD, POST",
        "Access-Control-Allow-Headers": "Authorization, Content-Type",
        "Access-Control-Max-Age": "600",
        "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
    }


def test_a_preflight_of_another_origin_is_told_nothing() -> None:
    asked = fields(origin="https://b.example", access_control_request_method="POST")
    assert lines(rule("https://a.example").preflight_lines(asked)) == {
        "Allow": "GET, HEAD, POST, OPTIONS",
        "Vary": "Origin",
    }


def test_headers_asked_for_in_two_fields_are_one_list() -> None:
    asked = [
        *fields(origin="https://a.example", access_control_request_method="GET", access_control_request_headers="x-a"),
        *fields(access_control_request_headers="x-b"),
    ]
    found = lines(rule("https://a.example", headers=("*",)).preflight_lines(asked))
    assert found["Access-Control-Allow-Headers"] == "x-a, x-b"


@pytest.mark.parametrize(("asked", "told"), [("authorization, x-a", "authorization, x-a"), ("x a", None), ("", None)])
def test_every_header_means_those_that_are_asked_for(asked: str, told: str | None) -> None:
    given = fields(
        origin="https://a.example", access_control_request_method="GET", access_control_request_headers=asked
    )
    found = lines(rule("https://a.example", headers=("*",)).preflight_lines(given))
    assert found.get("Access-Control-Allow-Headers") == told
