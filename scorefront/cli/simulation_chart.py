"""Chart of a simulation as a self-contained SVG or HTML file: requests in progress, and replicas of each policy."""

import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 20, 50
COLORS = ("#0b6bcb", "#c2410c", "#15803d", "#7c3aed", "#be123c", "#0e7490")
DASHES = ("", "6 3", "2 3", "10 3 2 3")
"""Line patterns, so that policies are told apart without colour."""
POINTS = 600
"""Steps of the curve of the load."""


def chart(
    requests: Sequence[tuple[float, float]], policies: Sequence[tuple[str, Sequence[Sequence[float]]]], form: str
) -> str:
    """The chart as text.

    requests: (arrival, service time) in seconds.
    policies: (name, [(second, replicas), …]) of each.
    form: `svg` or `html`.
    """
    load = _load(requests)
    end_s = max([load[-1][0], *(points[-1][0] for _, points in policies), 1.0])
    top = max([number for _, number in load] + [number for _, points in policies for _, number in points])
    scale = _Scale(end_s, max(1.0, top * 1.05))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 22 * len(policies)}" role="img"'
        ' font-family="system-ui, sans-serif" font-size="12">',
        "<title>Replicas over time, by scaling policy</title>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        *scale.axes(),
        f'<path d="{scale.steps(load, end_s, closed=True)}" fill="#94a3b8" fill-opacity=".35"/>',
    ]
    for index, (name, points) in enumerate(policies):
        style = f'stroke="{COLORS[index % len(COLORS)]}" stroke-dasharray="{DASHES[index % len(DASHES)]}"'
        y = HEIGHT + 22 * index
        lines += [
            f'<path d="{scale.steps(points, end_s)}" fill="none" stroke-width="2" {style}/>',
            f'<path d="M{LEFT} {y}h36" stroke-width="2" {style}/>',
            f'<text x="{LEFT + 44}" y="{y + 4}">{html.escape(name)}</text>',
        ]
    svg = "\n".join([*lines, "</svg>"])
    if form == "svg":
        return svg
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>scorefront simulate</title>'
        '<body style="max-width:72rem;margin:2rem auto;font-family:system-ui,sans-serif">'
        f"<h1>Replicas over time</h1>{svg}"
        "<p>Grey: requests in progress if each had a slot at once.</p></body></html>"
    )


def _load(requests: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(second, requests in progress): the largest number in each of POINTS steps."""
    changes = sorted([(at_s, 1) for at_s, _ in requests] + [(at_s + service_s, -1) for at_s, service_s in requests])
    step_s = max(changes[-1][0] / POINTS, 1e-9)
    highest: dict[int, int] = {0: 0}
    now = 0
    for at_s, change in changes:
        before, now = now, now + change
        at = int(at_s / step_s)
        highest[at] = max(highest.get(at, before), now)
    return [(at * step_s, float(number)) for at, number in sorted(highest.items())]


class _Scale:
    """Seconds and numbers to points of the picture."""

    def __init__(self, end_s: float, top: float) -> None:
        self._end_s, self._top = end_s, top

    def x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at_s / self._end_s

    def y(self, number: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * number / self._top

    def steps(self, points: Sequence[Sequence[float]], end_s: float, closed: bool = False) -> str:
        """A path that keeps each value until the next."""
        path = f"M{self.x(points[0][0]):.1f} {self.y(points[0][1]):.1f}"
        for at_s, number in points[1:]:
            path += f"H{self.x(at_s):.1f}V{self.y(number):.1f}"
        path += f"H{self.x(end_s):.1f}"
        return f"{path}V{self.y(0):.1f}H{self.x(points[0][0]):.1f}Z" if closed else path

    def axes(self) -> list[str]:
        """Grid lines and their numbers."""
        lines = []
        for number in _ticks(self._top):
            y = self.y(number)
            lines.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e2e8f0"/>')
            lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number:g}</text>')
        for at_s in _ticks(self._end_s):
            x = self.x(at_s)
            lines.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{at_s:g} s</text>')
        return lines


def _ticks(end: float, count: int = 6) -> list[float]:
    """Round numbers from 0 to `end`, about `count`."""
    rough = end / count
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough)
    return [round(step * index, 10) for index in range(int(end / step) + 1)]
