"""The bytes of health requests and of their answers."""

import pytest

from router.core.health import HealthSign
from router.proxy.health_requests import request, sign_of


def test_a_health_request_is_a_get_that_ends_its_connection() -> None:
    head = request("/ready?a=b", "model.test").decode()
    assert head.startswith("GET /ready?a=b HTTP/1.1\r\nHost: model.test\r\n") and head.endswith("\r\n\r\n")
    assert "Connection: close" in head


@pytest.mark.parametrize(
    ("line", "sign"),
    [
        (b"HTTP/1.1 200 OK\r\n", HealthSign.WELL),
        (b"HTTP/1.0 204\r\n", HealthSign.WELL),
        (b"HTTP/1.1 404 Not Found\n", HealthSign.WELL),
        (b"HTTP/1.1 500 Internal Server Error\r\n", HealthSign.UNREADY),
        (b"HTTP/1.1 503 \r\n", HealthSign.UNREADY),
        (b"", HealthSign.NONE),
        (b"garbage\r\n", HealthSign.NONE),
        (b"HTTP/2 200\r\n", HealthSign.NONE),
        (b"HTTP/1.1 2000 OK\r\n", HealthSign.NONE),
    ],
)
def test_any_status_below_500_is_well(line: bytes, sign: HealthSign) -> None:
    assert sign_of(line) is sign
