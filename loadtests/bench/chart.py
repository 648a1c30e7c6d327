"""A bar chart as SVG, written by hand; its colours follow the reader's light or dark scheme. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LABEL, ROOM, ROW, BAR, TOP = 720, 190, 120, 34, 22, 56
_STYLE = (
    "text{font:14px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.quiet{fill:#59636e}"
    ".bar{fill:#8c959f}.ours{fill:#0969da}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9198a1}.bar{fill:#656c76}.ours{fill:#4493f8}}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; `said` is written at its end, `ours` sets it off."""

    label: str
    value: float
    said: str
    ours: bool = False


def svg(title: str, subtitle: str, bars: Sequence[Bar]) -> str:
    """The chart. The longest bar fills the width; values are not negative."""
    height = TOP + ROW * len(bars) + 8
    longest = max((bar.value for bar in bars), default=0.0) or 1.0
    room = WIDTH - LABEL - ROOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_in(title)}">',
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
        f'<text class="quiet" x="8" y="40">{escape(subtitle)}</text>',
    ]
    for number, bar in enumerate(bars):
        top = TOP + number * ROW
        wide = round(room * bar.value / longest, 1)
        text = top + BAR - 6
        kind = "ours" if bar.ours else "bar"
        lines += [
            f'<text x="{LABEL - 10}" y="{text}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" x="{LABEL}" y="{top}" width="{wide}" height="{BAR}" rx="3"/>',
            f'<text x="{LABEL + wide + 8:.1f}" y="{text}">{escape(bar.said)}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _in(text: str) -> str:
    return escape(text, {'"': "&quot;"})
