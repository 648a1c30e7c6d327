"""Forwarded header fields, in either direction."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.header_fields import HOP_BY_HOP, Field, connection_tokens, for_client, for_replica

HOP_BY_HOP_NAMES = (
    *("Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"),
    *("HTTP2-Settings", "Proxy-Authenticate", "Proxy-Authorization"),
)
OWN_REQUEST = [
    "Authorization",
    "Content-Length",
    "Expect",
    "Forwarded",
    "X-Real-IP",
    "X-Ms-Request-Id",
    "X-Ms-Client-Request-Id",
    "Azureml-Model-Deployment",
    "X-Forwarded-User",
    "X-Forwarded-Port",
]
OWN_RESPONSE = [
    "Content-Length",
    "X-Ms-Request-Id",
    "X-Ms-Client-Request-Id",
    "Azureml-Model-Deployment",
    "X-Ms-Error-Code",
]


def nominated(fields: list[Field]) -> frozenset[bytes]:
    return connection_tokens([value for name, _, value in fields if name == b"connection"])


def fields(*lines: str) -> list[Field]:
    parsed = []
    for line in lines:
        name, _, value = line.partition(":")
        parsed.append((name.lower().encode(), name.encode(), value.strip().encode("latin-1")))
    return parsed


def to_replica(*lines: str, credential: bool = False) -> list[str]:
    given = fields(*lines)
    head = for_replica(given, nominated(given), b"front.example", credential)
    assert head.endswith(b"\r\n")
    return head.decode("latin-1").split("\r\n")[:-1]


def travelled(*lines: str) -> list[str]:
    """The fields at a replica, without the router's own."""
    said = to_replica()
    return [line for line in to_replica(*lines) if line not in said]


def to_client(*lines: str) -> list[str]:
    given = fields(*lines)
    return for_client(given, nominated(given)).decode("latin-1").split("\r\n")[:-1]


def test_ordinary_fields_travel_as_they_were_written_and_in_order() -> None:
    lines = [
        "Content-Type: application/json",
        "ACCEPT: */*",
        "x-Custom: a, b",
        "x-custom: c",
        "X-Empty: ",
        "Cookie: a=b",
    ]
    assert travelled(*lines) == lines
    assert to_client(*lines) == lines


def test_the_host_comes_first() -> None:
    assert to_replica() == ["Host: front.example"]


@pytest.mark.parametrize(
    "line",
    ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "Host: evil.example"],
)
def test_the_routers_own_fields_are_not_forwarded(line: str) -> None:
    assert to_replica(line) == to_replica()


def test_a_credential_is_passed_on_only_if_it_is_not_for_the_router() -> None:
    assert to_replica("Authorization: Bearer sk-x", credential=True)[1:] == ["Authorization: Bearer sk-x"]
    assert to_replica("Authorization: Bearer sk-x") == to_replica()
    assert to_replica("Proxy-Authorization: Basic eDp5", credential=True) == to_replica()


def test_proxies_before_are_kept_in_via() -> None:
    assert to_replica("Via: 1.0 before")[1] == "Via: 1.0 before"


@pytest.mark.parametrize("name", HOP_BY_HOP_NAMES)
def test_hop_by_hop_fields_stay_on_their_hop(name: str) -> None:
    assert travelled(f"{name}: x", f"{name.lower()}: x", f"{name.upper()}: x") == []
    assert to_client(f"{name}: x", f"{name.upper()}: x") == []


def test_fields_nominated_by_connection_stay_on_their_hop_both_ways() -> None:
    lines = [
        "Connection: X-One , x-TWO,, close",
        "Connection: x-three",
        "X-One: 1",
        "X-Two: 2",
        "X-Three: 3",
        "X-Four: 4",
    ]
    assert travelled(*lines) == ["X-Four: 4"]
    assert to_client(*lines) == ["X-Four: 4"]


@pytest.mark.parametrize("name", ["Content-Type", "Host", "Content-Length", "Authorization"])
def test_connection_cannot_nominate_fields_with_the_meaning_of_the_message(name: str) -> None:
    if name == "Content-Type":
        assert travelled(f"Connection: {name}", f"{name}: x") == [f"{name}: x"]
    assert to_replica(f"Connection: {name}")[0] == "Host: front.example"


@pytest.mark.parametrize("name", OWN_REQUEST)
def test_the_routers_own_fields_are_not_forwarded_to_a_replica(name: str) -> None:
    assert travelled(f"{name}: x", f"{name.lower()}: x") == []


@pytest.mark.parametrize("name", OWN_RESPONSE)
def test_the_routers_own_fields_are_not_forwarded_to_a_client(name: str) -> None:
    assert to_client(f"{name}: x", f"{name.upper()}: x") == []


@pytest.mark.parametrize("name", [*OWN_REQUEST, *OWN_RESPONSE, "Host", "Via", "Transfer-Encoding", "X-Forwarded-For"])
def test_look_alikes_with_underscores_are_dropped(name: str) -> None:
    variants = {name.replace("-", "_"), name.replace("-", "_", 1), name.lower().replace("-", "_")} - {
        name,
        name.lower(),
    }
    for variant in variants:
        assert travelled(f"{variant}: x") == []
        assert to_client(f"{variant}: x") == []


@pytest.mark.parametrize("name", ["X_Ms_Other", "X-Ms_Other", "Azureml_Run_Id", "X_Forwarded_Other"])
def test_look_alikes_of_the_routers_prefixes_are_dropped(name: str) -> None:
    assert travelled(f"{name}: x") == []


def test_a_credential_is_not_forwarded_by_default() -> None:
    assert (
        for_replica(fields("Authorization: Bearer sk-x"), frozenset(), b"front.example") == b"Host: front.example\r\n"
    )


def test_other_names_with_underscores_travel() -> None:
    assert travelled("my_field: x", "x_custom: y") == ["my_field: x", "x_custom: y"]


def test_a_challenge_of_the_model_itself_reaches_the_client() -> None:
    assert to_client("WWW-Authenticate: Basic", "Set-Cookie: a=b", "Set-Cookie: c=d", "Server: x") == [
        "WWW-Authenticate: Basic",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "Server: x",
    ]


NAMES = st.sampled_from(
    ["Accept", "X-A", "x_b", "Authorization", "AUTHORIZATION", "authorization", "TE", "Upgrade", "Connection", "Host"]
)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["s3cret", "x-a", "accept", "authorization", "close"]))))
def test_no_credential_and_no_hop_by_hop_field_reaches_a_replica_for_any_nomination(
    pairs: list[tuple[str, str]],
) -> None:
    lines = to_replica(*(f"{name}: {value}" for name, value in pairs))
    names = [line.partition(":")[0].lower() for line in lines]
    assert "authorization" not in names and not {name.encode() for name in names} & HOP_BY_HOP
    assert names.count("host") == 1 and lines[0] == "Host: front.example"


@given(st.lists(st.binary(max_size=20)))
def test_the_tokens_of_a_connection_field_are_lower_case_and_trimmed(values: list[bytes]) -> None:
    tokens = connection_tokens(values)
    assert all(token == token.strip().lower() and token and b"," not in token for token in tokens)
