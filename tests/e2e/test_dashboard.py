"""The dashboard in a real headless Chromium: no error of the console, no request that fails, keys, themes, widths."""

import asyncio
import json
import os
import subprocess
import tarfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from loadtests.chromium import Browser, browser, program
from loadtests.installation import Client, Installation, manifest, witness_version

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(program() is None, reason="needs Chromium"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("chromium"),
]
AXE = "SCOREFRONT_AXE"
"""Opt-in: 1 fetches axe-core from npm and checks every page; or the path of an axe.min.js."""
DESCRIPTION = "<img src=x onerror=alert(1)> & \"quoted\" 'text'"
FAILING = {
    "name": "main",
    "numReplicas": 1,
    "replica": {"command": ["python", "-c", "raise SystemExit('<b>no such file</b>: model.pkl')"]},
}


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Control and treatment with traffic and failures, an endpoint that cannot start, and sixty more."""
    versions = [
        witness_version("blue", work_ms=1, slots=8, numReplicas=1, type="Control", isDefault=True),
        witness_version("green", work_ms=1, slots=8, numReplicas=1, type="Treatment", trafficPercentile=50),
    ]
    many = [
        manifest(f"many-{number:02}", [{"name": "main", "replica": {"static": ["127.0.0.1:9"]}}])
        for number in range(60)
    ]
    with Installation(tmp_path_factory.mktemp("dashboard")) as running:
        running.start(manifest("echo", versions, description=DESCRIPTION))
        asyncio.run(_fill(running, [manifest("broken", [FAILING]), *many]))
        yield running
        running.stop()


async def _fill(running: Installation, documents: list[dict[str, object]]) -> None:
    async with Client(running) as client:
        for number in range(40):
            version = ("blue", "green")[number % 2]
            assert (await client.score("echo", headers={"azureml-model-deployment": version}))[0] == 200
        assert (await client.score("echo", path="reset"))[0] == 502
        assert (await client.score("echo", headers={"Authorization": "Bearer wrong"}))[0] == 401
        for document in documents:
            name = document["metadata"]["name"]  # type: ignore[index]  # manifests are typed as object
            status, answer = await client.rest("PUT", f"/api/v1/endpoints/{name}", document)
            assert status == 201, answer


@pytest.fixture
async def page(installation: Installation, tmp_path: Path) -> AsyncIterator[Browser]:
    async with browser(tmp_path) as opened:
        await opened.size(1280)
        yield opened
        assert opened.errors == []
        assert {each for each in opened.requests if not each.startswith(installation.control)} <= {"about:blank"}


async def row(page: Browser, name: str) -> str:
    """Text of a row of the overview, once it is there."""
    link = f"document.querySelector('.endpoints a[href=\"#/endpoints/{name}\"]')"
    return str(await page.until(f"{link}?.closest('tr').innerText"))


async def test_the_overview_shows_health_pages_and_searches(installation: Installation, page: Browser) -> None:
    await page.go(installation.control)
    assert "failing" in await row(page, "broken")
    assert "exited with code" in await row(page, "broken") or "starting" in await row(page, "broken")
    assert await page.until("document.querySelector('.range').textContent") == "1–50 of 62"
    await page.value("document.querySelector('.pager button:last-child').click()")
    await page.until("document.querySelector('.range').textContent", lambda text: text == "51–62 of 62")
    await page.press("/")
    assert await page.value("document.activeElement.id") == "search"
    for letter in "echo":
        await page.press(letter)
    await page.until("document.querySelectorAll('.endpoints tbody tr').length", lambda count: count == 1)
    text = await row(page, "echo")
    assert DESCRIPTION in text and await page.value("document.querySelectorAll('main img').length") == 0
    await page.value("document.querySelector('[data-health=failing]').click()")
    await page.until("document.querySelector('.list > .none').hidden", lambda hidden: not hidden)


async def test_an_endpoint_has_charts_comparison_failures_and_a_trial(
    installation: Installation, page: Browser
) -> None:
    await page.go(f"{installation.control}/#/endpoints/echo")
    await page.until("document.querySelectorAll('.chart canvas').length", lambda count: count == 8)
    sentence = await page.until("document.querySelector('.sentence')?.textContent")
    assert "green" in sentence and "blue" in sentence
    failures = await page.until("document.querySelector('table[aria-label=\"Recent failures\"] tbody')?.innerText")
    assert "502" in failures and "401" in failures and "no valid key or token" in failures
    await page.until("document.querySelector('#trial-body').value", lambda text: "data" in text)
    await page.value("document.querySelector('#trial-version').value = 'green'")
    await page.value("document.querySelector('#trial-body').focus()")
    await page.press("Enter", 13, modifiers=2)
    outcome = await page.until("document.querySelector('.outcome').textContent", lambda text: "status" in text)
    assert "status 200" in outcome and "version green" in outcome
    for span in ("5m", "24h"):
        await page.value(f"document.querySelector('[data-span=\"{span}\"]').click()")
        await page.until("document.querySelectorAll('.chart canvas').length", lambda count: count == 8)
    await page.value("document.querySelector('.chart summary').click()")
    assert await page.until("document.querySelectorAll('.chart details[open] tbody tr').length")
    await page.value(
        "(select => { select.value = 'blue'; select.dispatchEvent(new Event('change')); })"
        "(document.querySelector('#chart-version'))"
    )
    await page.until("document.querySelectorAll('.chart').length", lambda count: count == 6)


async def test_every_control_is_reached_by_the_keyboard(installation: Installation, page: Browser) -> None:
    await page.go(f"{installation.control}/#/endpoints/echo")
    await page.until("document.querySelectorAll('.chart canvas').length", lambda count: count == 8)
    wanted = {"theme", "chart-version", "trial-body", "trial-version"}
    seen: list[str] = []
    for _ in range(80):
        await page.press("Tab", 9)
        seen.append(await page.value("document.activeElement.id || document.activeElement.className"))
        if wanted <= set(seen):
            break
    assert wanted <= set(seen) and seen[0] == "skip" and "canvas" in seen
    await page.value("document.querySelector('.canvas').focus()")
    await page.press("ArrowLeft", 37)
    assert " at " in await page.until(
        "document.querySelector('.chart figcaption').textContent", lambda text: " at " in text
    )
    await page.value("document.activeElement.blur()")
    await page.press("Escape", 27)
    await row(page, "broken")


async def test_the_theme_is_that_of_the_system_or_the_chosen_one(installation: Installation, page: Browser) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    await page.scheme("dark")
    await page.go(installation.control)
    await page.until("document.querySelector('#theme')?.textContent")
    dark = await page.value(background)
    await page.scheme("light")
    light = await page.until(background, lambda color: color != dark)
    for name, color in (("light", light), ("dark", dark)):
        await page.value("document.querySelector('#theme').click()")
        assert (await page.value("document.documentElement.dataset.theme"), await page.value(background)) == (
            name,
            color,
        )
    await page.go(f"{installation.control}/#/endpoints/echo")
    await page.until("document.querySelector('.chart canvas') !== null")
    assert await page.value(background) == dark


@pytest.mark.parametrize("where", ["", "#/endpoints/echo", "#/endpoints/broken"])
async def test_a_narrow_page_scrolls_in_one_direction_only(
    installation: Installation, page: Browser, where: str
) -> None:
    await page.size(400)
    await page.go(f"{installation.control}/{where}")
    await page.until("document.querySelector('.endpoints tbody tr, .chart canvas') !== null")
    await page.until("document.documentElement.scrollWidth", lambda width: width <= 400)


async def test_a_deleted_endpoint_says_so_and_links_back(installation: Installation, page: Browser) -> None:
    await page.go(f"{installation.control}/#/endpoints/none")
    assert "none" in await page.until("document.querySelector('.endpoint > .message')?.textContent")
    page.errors = [each for each in page.errors if "404" not in each]


@pytest.mark.skipif(not os.environ.get(AXE), reason=f"{AXE} is not set")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
async def test_axe_finds_no_fault(
    installation: Installation, page: Browser, tmp_path: Path, scheme: str, width: int
) -> None:
    source = axe_source(tmp_path)
    await page.size(width)
    await page.scheme(scheme)
    for where in ("#/", "#/endpoints/echo", "#/endpoints/broken"):
        await page.go("about:blank")
        await page.go(f"{installation.control}/{where}")
        await page.until("document.querySelector('.endpoints tbody tr, .comparison, .message') !== null")
        await page.value(source)
        found = json.loads(await page.value("axe.run().then((found) => JSON.stringify(found.violations))"))
        faults = [(each["id"], node["target"], node["failureSummary"]) for each in found for node in each["nodes"]]
        assert faults == [], where


def axe_source(folder: Path) -> str:
    """The script of axe-core: from the file that is named, or from npm."""
    named = os.environ[AXE]
    if named != "1":
        return Path(named).read_text()
    told = subprocess.run(
        ["npm", "view", "axe-core", "dist.tarball"], capture_output=True, text=True, check=True, timeout=60
    )
    with urllib.request.urlopen(told.stdout.strip(), timeout=60) as response:
        (folder / "axe.tgz").write_bytes(response.read())
    with tarfile.open(folder / "axe.tgz") as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
