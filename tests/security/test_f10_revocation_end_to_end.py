"""F10, as a user sees it: `scorefront token NAME --revoke` against two router workers, a restart, a new endpoint."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests.installation import Installation, manifest, witness_version
from tests.e2e.conftest import Site

DEADLINE_S = 5.0
TRIES = 12
"""Connections of their own each, so that the system gives both workers some."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Installation(tmp_path, "--workers", "2") as installation:
        yield Site(installation)


def document() -> dict[str, object]:
    return manifest("mint", [witness_version("blue", work_ms=1, slots=8, numReplicas=1)], tokenAuthEnabled=True)


def statuses(site: Site, token: str) -> set[int]:
    return {site.score("mint", token).status for _ in range(TRIES)}


def settles_at(site: Site, token: str, status: int) -> None:
    """Every worker answers with this status soon. The deadline is ample: a busy machine is no fault."""
    deadline = time.monotonic() + DEADLINE_S
    while (seen := statuses(site, token)) != {status}:
        assert time.monotonic() < deadline, seen


def test_a_revoked_token_dies_everywhere_and_for_good(site: Site) -> None:
    site.installation.start(document())
    keys = site.keys("mint")
    old = site.cli("token", "mint").stdout.strip()
    assert statuses(site, old) == {200}

    revoked = site.cli("token", "mint", "--revoke", "-o", "json")
    assert revoked.returncode == 0, revoked.stderr
    new = json.loads(revoked.stdout)
    assert set(new) == {"accessToken", "tokenType", "refreshAfter", "expiryOn"}
    settles_at(site, old, 401)
    settles_at(site, new["accessToken"], 200)
    assert site.keys("mint") == keys

    printed = site.cli("token", "mint", "--revoke").stdout
    assert printed.count("\n") == 1
    settles_at(site, new["accessToken"], 401)
    settles_at(site, printed.strip(), 200)

    assert site.installation.stop() == 0
    site.installation.start(document())
    assert (statuses(site, old), statuses(site, printed.strip())) == ({401}, {200})

    path = "/api/v1/endpoints/mint"
    assert site.rest("DELETE", path).status == 204
    settles_at(site, printed.strip(), 404)
    assert site.rest("PUT", path, document()).status == 201
    settles_at(site, printed.strip(), 401)
    assert site.installation.stop() == 0


def test_an_impossible_revocation_is_refused_with_the_reason(site: Site) -> None:
    site.installation.start(manifest("echo", [witness_version("blue", work_ms=1, slots=8, numReplicas=1)]))
    for name, words in (("echo", "does not use token auth"), ("nobody", "there is no endpoint 'nobody'")):
        refused = site.cli("token", name, "--revoke")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert words in refused.stderr and "Traceback" not in refused.stderr
    assert site.cli("token", "No_Name", "--revoke").returncode == 2
    assert site.rest("GET", "/api/v1/endpoints/echo/token/revoke").status == 405
    assert site.installation.stop() == 0
