"""Recall against speed, drawn."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maxsight.index.building.vector_index import IndexReport

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 50, 55
_COLOURS = ("#1f6feb", "#d1570a", "#2da44e")


def draw(report: IndexReport) -> str:
    """An SVG picture of every setting tried: queries a CPU second, on a scale of powers, against
    recall by kind of query; the chosen setting is ringed, the target a dashed line."""
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 24, f"{report.index}, {report.rows:,} vectors", size=15),
    ]
    points = report.points
    if not points or report.point is None:
        shapes.append(_text(_LEFT, _HEIGHT / 2, "every search is exact: nothing to tune"))
        return "\n".join([*shapes, "</svg>", ""])
    speeds = [point.queries_per_second for point in points]
    lowest = min(min(share for point in points for share in point.recall.values()), report.target)
    low, high = math.floor(lowest * 20) / 20, 1.0
    left, right = math.log10(min(speeds) / 1.2), math.log10(max(speeds) * 1.2)

    def x(speed: float) -> float:
        inside = _WIDTH - _LEFT - _RIGHT
        return _LEFT + inside * (math.log10(speed) - left) / (right - left)

    def y(share: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - share) / max(high - low, 0.05)

    for step in range(6):
        share = low + (high - low) * step / 5
        shapes.append(_line(_LEFT, y(share), _WIDTH - _RIGHT, y(share), "#e5e5e5"))
        shapes.append(_text(_LEFT - 8, y(share) + 4, f"{share:.2f}", anchor="end"))
    ticks = [n * 10**power for power in range(int(left), int(right) + 1) for n in (1, 2, 5)]
    for tick in ticks:
        if left <= math.log10(tick) <= right:
            left, foot = x(tick), _HEIGHT - _BOTTOM
            shapes.append(_line(left, _TOP, left, foot, "#e5e5e5"))
            shapes.append(_text(left, foot + 18, f"{tick:,}", anchor="middle"))
    target = y(report.target)
    shapes.append(_line(_LEFT, target, _WIDTH - _RIGHT, target, "#888", dashes="5 4"))
    for number, kind in enumerate(report.point.recall):
        colour = _COLOURS[number % len(_COLOURS)]
        for point in points:
            centre = f'cx="{x(point.queries_per_second):.1f}" cy="{y(point.recall[kind]):.1f}"'
            title = f"probes {point.effort.probes}, shortlist {point.effort.shortlist}"
            shapes.append(f'<circle {centre} r="4" fill="{colour}"><title>{title}</title></circle>')
            if point == report.point:
                shapes.append(f'<circle {centre} r="9" fill="none" stroke="{colour}"/>')
        shapes.append(_text(_WIDTH - _RIGHT - 90, _TOP - 12 - 16 * number, kind, colour=colour))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    shapes.append(_text(middle, _HEIGHT - 12, "queries a CPU second", anchor="middle"))
    shapes.append(_text(10, _TOP - 12, "recall@10"))
    return "\n".join([*shapes, "</svg>", ""])


def _text(
    x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#222", size: int = 13
) -> str:
    attributes = (
        f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    )
    return f"<text {attributes}>{escape(text)}</text>"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashes: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-dasharray="{dashes}"/>'
