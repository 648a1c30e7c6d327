"""The chart is well-formed SVG with its values."""

import xml.etree.ElementTree as ET

from loadtests.bench.chart import LABEL, ROOM, WIDTH, Bar, svg

SVG = "{http://www.w3.org/2000/svg}"


def bars_of(text: str) -> list[ET.Element]:
    return ET.fromstring(text).findall(f"{SVG}rect")


def test_bars_are_as_long_as_their_values() -> None:
    first, second = bars_of(svg("t", "s", [Bar("a", 200, "200"), Bar("b", 50, "50")]))
    assert float(first.attrib["width"]) == WIDTH - LABEL - ROOM
    assert float(second.attrib["width"]) == (WIDTH - LABEL - ROOM) / 4


def test_our_own_bar_is_set_off() -> None:
    classes = [bar.attrib["class"] for bar in bars_of(svg("t", "s", [Bar("a", 1, "1", ours=True), Bar("b", 1, "1")]))]
    assert classes == ["ours", "bar"]


def test_text_is_escaped() -> None:
    root = ET.fromstring(svg('"<&>"', "s", [Bar("<a>", 1, "1 & 2")]))
    texts = [element.text for element in root.findall(f"{SVG}text")]
    assert {'"<&>"', "<a>", "1 & 2"} <= set(texts)
    assert root.attrib["aria-label"] == '"<&>"'


def test_nothing_measured_gives_a_chart_without_bars_and_zero_gives_a_bar_without_length() -> None:
    assert bars_of(svg("t", "s", [])) == []
    assert bars_of(svg("t", "s", [Bar("a", 0, "0")]))[0].attrib["width"] == "0.0"


def test_both_colour_schemes_are_served() -> None:
    assert "prefers-color-scheme:dark" in svg("t", "s", [])
