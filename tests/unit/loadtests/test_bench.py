"""Results of the benchmarks from measured values; the timed parts still exist."""

import sys
from pathlib import Path

import pytest

from loadtests.bench import features, interpreter, parts, throughput
from loadtests.bench.features import FEATURES, Variant
from loadtests.bench.figures import Promise, Table
from loadtests.bench.page import Report, markdown
from loadtests.bench.throughput import KINDS, PEERS, Measured
from loadtests.bench.traffic import BODY, Heads, requests
from loadtests.bench.wrk import Run
from loadtests.peers.rig import Target
from router.proxy.request_plan import RequestPlan


def measured(**rates: float) -> list[Measured]:
    """Runs of a second that used half of the core, alike under all traffic."""
    return [
        Measured(Target("scorefront" if name == "ours" else name, 1), traffic, "", [Run(int(rate), 1.0, 0, 0.5)])
        for traffic in KINDS
        for name, rate in rates.items()
    ]


def test_the_body_has_sixty_bytes() -> None:
    assert len(BODY) == 60


def test_requests_of_a_kind_are_distinct_and_the_same_in_each_run() -> None:
    target = Target("t", 1)
    for heads in (Heads.VARY, Heads.MIXED):
        made = requests(heads, target, 600)
        assert len(set(made)) == 600 and made == requests(heads, target, 600)
    assert len(requests(Heads.SAME, target)) == 1


def test_one_client_sends_the_same_names_in_the_same_order_and_six_clients_send_six_sets() -> None:
    def names(request: bytes) -> tuple[bytes, ...]:
        return tuple(line.partition(b":")[0] for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])

    for heads, sets in ((Heads.VARY, 1), (Heads.MIXED, 6)):
        made = requests(heads, Target("t", 1), 600)
        assert len({names(each) for each in made}) == sets
        assert len({len(each) for each in made}) > 10


def test_ratios_are_of_the_medians() -> None:
    found = measured(ours=30_000, Envoy=20_000, nginx=60_000)
    found[0].runs = [Run(rate, 1.0, 0, 0.5) for rate in (10_000, 40_000, 90_000)]
    assert found[0].traffic == KINDS[0]
    ratios = [promise.measured for promise in throughput.promises(found)[:-1]]
    assert ratios[:2] == pytest.approx([2.0, 2 / 3]) and ratios[2:] == [1.5, 0.5] * 5


def test_a_peer_that_is_missing_is_said_to_be_and_its_ratio_is_not_kept() -> None:
    found = measured(ours=30_000, nginx=40_000)
    assert "not installed" in throughput.rates(found).text()
    assert [promise.kept for promise in throughput.promises(found)] == [False, True] * 6 + [True]


def test_the_traffic_that_varies_most_comes_first_and_the_backend_has_no_cost() -> None:
    found = measured(ours=10_000, direct=40_000)
    rates, costs = throughput.rates(found, PEERS), throughput.costs(found, PEERS)
    assert [row[0] for row in rates.rows[:: len(rates.rows) - 1]] == ["mixed / varying", "same / fixed"]
    assert rates.rows[0][1] == "10,000" and costs.rows[0][1] == "50.0 (50 %)"
    assert "direct" in rates.columns and "direct" not in costs.columns


def test_the_compiled_build_has_ratios_and_promises_of_its_own() -> None:
    found = measured(ours=20_000, Envoy=10_000, nginx=30_000, **{"scorefront compiled": 21_000})
    table = throughput.rates(found, PEERS)
    assert table.columns[-3:] == ("compiled ÷ Envoy", "compiled ÷ nginx", "failed")
    assert table.rows[0][-5:-1] == ("2.00", "0.67", "2.10", "0.70")
    broken = [promise.what for promise in throughput.promises(found) if not promise.kept]
    assert [what for what in broken if what.startswith("scorefront compiled, ")] == [
        f"scorefront compiled, {traffic}: requests/s, ratio to Envoy" for traffic in KINDS
    ]


def test_failed_requests_under_load_break_a_promise() -> None:
    found = measured(ours=90_000, Envoy=10_000, nginx=90_000)
    assert all(promise.kept for promise in throughput.promises(found))
    found[0].runs[0] = Run(90_000, 1.0, 1, 0.5)
    assert not throughput.promises(found)[-1].kept


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("'--enable-optimizations' '--with-lto'", "configured with PGO and LTO; reference loop "),
        ("'--enable-shared'", "configured with neither PGO nor LTO"),
        (None, "neither PGO nor LTO"),
    ],
)
def test_the_build_of_the_interpreter_is_named(options: str | None, said: str) -> None:
    assert said in interpreter.described({"CONFIG_ARGS": options})


def test_an_interpreter_that_cannot_run_the_packages_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 3.9\n")
    other.chmod(0o755)
    with pytest.raises(SystemExit, match=r"must be Python 3\.\d+, for its packages; is 3\.9"):
        interpreter.change(str(other), "loadtests.bench", [])
    with pytest.raises(SystemExit, match="No such file"):
        interpreter.change(str(tmp_path / "none"), "loadtests.bench", [])
    interpreter.change(sys.executable, "loadtests.bench", [])


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
    tables = {name: Table((name,), ((f"{name} row",),)) for name in ("rates", "costs", "features", "parts", "latency")}
    page = markdown(
        Report(
            "make bench", Table(("", ""), (("kernel", "6.1"),)), noise_ns=123.4, promises=[Promise("p", 2, 1)], **tables
        )
    )
    assert all(f"| {name} row |" in page for name in tables)
    assert "](benchmarks.svg)" in page and "`make bench`" in page and "kernel" in page and "123 ns" in page
    assert "- p: 2.00 (promised ≥ 1) kept" in page
