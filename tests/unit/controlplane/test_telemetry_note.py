"""The note on endpoints with telemetry that is not exported."""

from pathlib import Path

import pytest

from tests.fakes.plane import Bench, manifest


@pytest.mark.parametrize(
    ("note", "wanted", "notes"), [("no exporter", True, ["no exporter"]), ("no exporter", False, []), ("", True, [])]
)
async def test_only_endpoints_with_telemetry_that_is_not_exported_have_the_note(
    tmp_path: Path, note: str, wanted: bool, notes: list[str]
) -> None:
    bench = await Bench(tmp_path, note).start()
    view = await bench.apply(manifest(appInsightsEnabled=wanted))
    assert view["status"]["notes"] == notes
    await bench.plane.stop()
