"""Hosts from which keys of token issuers may come."""

from dataclasses import replace

import pytest

from serving.endpoint import Auth, Endpoint, ForeignIssuer
from serving.issuer_hosts import SETTING, IssuerHosts, NotHosts, issuer_faults, issuer_hosts

LISTED = issuer_hosts("login.example.com, *.Tenants.example.com ,10.1.2.3", in_cluster=True)
CLUSTER = IssuerHosts(in_cluster=True)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://login.example.com/keys", ""),
        ("https://LOGIN.example.com.:8443/keys", ""),
        ("https://a.b.tenants.example.com/keys", ""),
        ("https://10.1.2.3/keys", ""),
        ("https://tenants.example.com/keys", "its host tenants.example.com is not in the list"),
        ("https://eviltenants.example.com/keys", "not in the list"),
        ("https://login.example.com.evil.net/keys", "not in the list"),
        ("https://login.example.com@evil.net/keys", "its host evil.net is not in the list"),
        ("https://[", "it has no host"),
    ],
)
def test_a_host_is_in_the_list_or_refused(url: str, refused: str) -> None:
    assert (refused in LISTED.refusal(url)) if refused else LISTED.refusal(url) == ""


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("169.254.169.254", "link-local"),
        ("[fd00:ec2::254]", "a cloud's metadata service"),
        ("[::ffff:169.254.1.1]", "link-local"),
        ("[64:ff9b::a9fe:a9fe]", "link-local"),
        ("168.63.129.16", "a cloud's metadata service"),
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback, which is the router's own pod"),
        ("[::1]", "loopback"),
        ("localhost", "loopback"),
    ],
)
def test_without_a_list_all_hosts_but_dangerous_addresses_are_allowed(host: str, reason: str) -> None:
    assert f"is never allowed: it is {reason}" in CLUSTER.refusal(f"https://{host}/keys")
    assert CLUSTER.refusal("https://any.example/keys") == CLUSTER.refusal("https://10.0.0.7/keys") == ""


def test_an_address_that_is_never_allowed_is_not_allowed_by_the_list() -> None:
    assert "never allowed" in issuer_hosts("169.254.169.254", in_cluster=True).refusal("https://169.254.169.254/")


def test_on_one_machine_loopback_is_allowed_and_metadata_services_are_not() -> None:
    assert IssuerHosts().refusal("http://127.0.0.1:8000/keys") == IssuerHosts().refusal("http://localhost/keys") == ""
    assert "link-local" in IssuerHosts().refusal("https://169.254.169.254/keys")


def test_an_empty_list_allows_no_host() -> None:
    assert "not in the list" in issuer_hosts("", in_cluster=False).refusal("https://login.example.com/keys")


@pytest.mark.parametrize("text", ["https://login.example.com", "a b", "*", "*.*.example.com", "login.example.com:443"])
def test_what_is_no_list_of_hosts_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(NotHosts, match=rf"{SETTING}: must be hosts such as .* \(got "):
        issuer_hosts(text, in_cluster=False)


def test_a_fault_names_the_field_that_has_the_host() -> None:
    endpoint = Endpoint("iris", Auth.TOKEN, ())
    issuers = (
        ForeignIssuer("https://login.example.com", "x"),
        ForeignIssuer("https://169.254.169.254/", "x"),
        ForeignIssuer("anything", "x", "https://169.254.169.254/keys"),
    )
    faults = list(issuer_faults(replace(endpoint, token_issuers=issuers), CLUSTER))
    assert [(fault.path, fault.value) for fault in faults] == [
        ("spec.tokenIssuers[1].issuer", "https://169.254.169.254/"),
        ("spec.tokenIssuers[2].jwksUri", "https://169.254.169.254/keys"),
    ]
    assert faults[0].rule == (
        "keys cannot come from there: its address 169.254.169.254 is never allowed: it is link-local"
    )
