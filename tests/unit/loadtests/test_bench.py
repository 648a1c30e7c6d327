"""Results of the benchmarks from measured values; the timed parts still exist."""

import pytest

from loadtests.bench import features, parts, throughput
from loadtests.bench.features import FEATURES, Variant
from loadtests.bench.figures import Promise, Table
from loadtests.bench.page import Report, markdown
from loadtests.bench.throughput import BODY, PEERS, Measured
from loadtests.bench.wrk import Run
from loadtests.peers.rig import Target
from router.proxy.request_plan import RequestPlan


def measured(**rates: float) -> list[Measured]:
    """Runs of a second that used half of the core."""
    names = {"ours": "scorefront", "relay": "aiohttp relay"}
    return [
        Measured(Target(names.get(name, name), 1), "", [Run(int(rate), 1.0, 0, 0.5)]) for name, rate in rates.items()
    ]


def test_the_body_has_sixty_bytes() -> None:
    assert len(BODY) == 60


def test_ratios_are_of_the_medians() -> None:
    found = measured(ours=30_000, Envoy=20_000, nginx=50_000, relay=5_000)
    found[0].runs = [Run(rate, 1.0, 0, 0.5) for rate in (10_000, 30_000, 90_000)]
    promises = throughput.promises(found)
    assert [promise.measured for promise in promises] == [1.5, 0.6, 6.0]
    assert all(promise.kept for promise in promises)


def test_a_peer_that_is_missing_is_said_to_be_and_its_ratio_is_not_kept() -> None:
    found = measured(ours=30_000, nginx=40_000)
    text = throughput.table(found, PEERS).text()
    assert "Envoy" in text and "not installed" in text
    assert [promise.kept for promise in throughput.promises(found)] == [False, True, False]


def test_the_backend_itself_is_no_proxy_and_has_no_cost_of_one() -> None:
    rows = {row[0]: row for row in throughput.table(measured(ours=10_000, direct=40_000)).rows}
    assert rows["direct"][1:4] == ("40,000", "", "")
    assert rows["scorefront"][1:4] == ("10,000", "50.0", "50 %")


def variants(**costs_us: float) -> dict[str, Variant]:
    names = {name for feature in FEATURES for name in (feature.variant, feature.without)}
    target = Target("t", 1)
    return {name: Variant(target, runs=[Run(1000, 1.0, 0, costs_us.get(name, 20) / 1000)] * 3) for name in names}


def test_a_feature_costs_the_difference_of_its_variants() -> None:
    rows = {row[0]: row[1] for row in features.table(variants(tls=26.0, open=19.5)).rows}
    assert rows["TLS 1.3"] == "+6,000"
    assert rows["key auth, head repeats"] == "+500"
    assert rows["chunked answer"] == "+0"


def test_failed_requests_of_a_variant_are_reported() -> None:
    found = variants()
    found["tls"].runs = [Run(10, 1.0, 7, 0.1)] * 3
    assert any("21 requests FAILED" in row[2] for row in features.table(found).rows)


def test_noise_is_half_the_range_of_the_base() -> None:
    found = variants()
    found["base"].runs = [Run(1000, 1.0, 0, cost) for cost in (0.020, 0.024, 0.021)]
    assert features.noise_ns(found) == pytest.approx(2000)


def test_every_part_that_is_timed_runs() -> None:
    timed = parts.parts()
    assert [row[0] for row in parts.table(loops=2).rows] == list(timed)
    plan = next(part() for name, part in timed.items() if "plan" in name)
    assert isinstance(plan, RequestPlan) and plan.admitted


def test_the_page_has_every_table_the_chart_and_each_promise() -> None:
    tables = {name: Table((name,), ((f"{name} row",),)) for name in ("throughput", "features", "parts", "latency")}
    page = markdown(
        Report(
            "make bench", Table(("", ""), (("kernel", "6.1"),)), noise_ns=123.4, promises=[Promise("p", 2, 1)], **tables
        )
    )
    assert all(f"| {name} row |" in page for name in tables)
    assert "](benchmarks.svg)" in page and "`make bench`" in page and "kernel" in page and "123 ns" in page
    assert "- p: 2.00 (promised ≥ 1) kept" in page
