"""Rules for the hosts that keys of foreign token issuers come from. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from serving.destinations import literal, never_allowed
from serving.endpoint import Endpoint
from serving.faults import Fault, written

SETTING = "SCOREFRONT_TOKEN_ISSUER_HOSTS"
_HOST = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class NotHosts(ValueError):
    """Text that is not a list of hosts; str() names the rule."""


@dataclass(frozen=True, slots=True)
class IssuerHosts:
    """The allowed hosts of an installation."""

    names: tuple[str, ...] | None = None
    """Names, addresses, and `*.example.com` for the names below; None: all."""
    in_cluster: bool = False
    """Loopback is never allowed in a cluster: it is the router's own pod."""

    def refusal(self, url: str) -> str:
        """The reason for not fetching this URL; "" if its host is allowed. Addresses of names are checked later."""
        host = host_of(url)
        if host is None:
            return "it has no host"
        if self.names is not None and not any(_matches(host, name) for name in self.names):
            return f"its host {host} is not in the list of allowed hosts ({SETTING})"
        if self.in_cluster and (host == "localhost" or host.endswith(".localhost")):
            return self.address_refusal("127.0.0.1")
        return self.address_refusal(host)

    def address_refusal(self, host: str) -> str:
        """The reason for not connecting to an address; "" if it is allowed, or a name."""
        address = literal(host)
        reason = never_allowed(address, self.in_cluster) if address is not None else ""
        return f"its address {address} is never allowed: it is {reason}" if reason else ""


def host_of(url: str) -> str | None:
    """Host of a URL in lower case, without brackets and the dot at its end; None without one."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.rstrip(".") or None if host else None


def issuer_hosts(text: str | None, in_cluster: bool) -> IssuerHosts:
    """The hosts of a list with commas; None: all. Raises NotHosts."""
    if text is None:
        return IssuerHosts(None, in_cluster)
    names = tuple(part.lower() for part in filter(None, map(str.strip, text.split(","))))
    for name in names:
        if not _HOST.fullmatch(name) and literal(name) is None:
            rule = "must be hosts such as login.example.com, *.example.com or 10.1.2.3, with commas between"
            raise NotHosts(f"{SETTING}: {rule} (got {name!r})")
    return IssuerHosts(names, in_cluster)


def issuer_faults(endpoint: Endpoint, hosts: IssuerHosts) -> Iterator[Fault]:
    """The faults of the declared issuers. `hosts`: allowed by the installation."""
    for index, issuer in enumerate(endpoint.token_issuers):
        if refusal := hosts.refusal(issuer.source):
            field = "jwksUri" if issuer.jwks_uri else "issuer"
            at = written(("spec", "tokenIssuers", index, field))
            yield Fault(at, issuer.jwks_uri or issuer.issuer, f"keys cannot come from there: {refusal}")


def _matches(host: str, name: str) -> bool:
    return host.endswith(name[1:]) if name.startswith("*.") else host == name
