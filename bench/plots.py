"""Plots as SVG, written by hand: bars of figures against their targets, and lines of how cost grows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

from bench.results import Figure, Series

_WIDTH: Final = 860
_ROW: Final = 26
_LABELS: Final = 430
_MET: Final = "#2a7f4f"
_MISSED: Final = "#b8442f"
_COLOURS: Final = ("#2a6f97", "#b8442f", "#2a7f4f", "#8a5a9e", "#8a6d1f", "#555555")
_STYLE: Final = 'font-family="sans-serif" font-size="12" fill="#222"'


def bars(figures: Sequence[Figure]) -> str:
    """How far each figure with a target is on the way to it: 1 is the target, the line; the spread is the thin bar."""
    shown = [figure for figure in figures if figure.target is not None]
    height = _ROW * (len(shown) + 1) + 10
    most, width = 2.0, _WIDTH - _LABELS - 60
    at = _LABELS + width / most
    rows = [f'<line x1="{at}" y1="4" x2="{at}" y2="{height - 14}" stroke="#222" stroke-dasharray="4 3"/>']
    rows.append(_text(at, height - 2, "target", anchor="middle"))
    for number, figure in enumerate(shown):
        top = 8 + number * _ROW
        reached, least, most_reached = (_reached(figure, value) for value in (figure.value, figure.least, figure.most))
        colour = _MET if figure.is_met else _MISSED
        low, high = sorted((least, most_reached))
        rows.append(_text(_LABELS - 8, top + 14, _short(figure.what), anchor="end"))
        rows.append(_bar(top + 3, 12, 0, min(reached, most), width / most, colour))
        rows.append(_bar(top + 17, 3, min(low, most), min(high, most), width / most, colour))
        rows.append(_text(_LABELS + min(reached, most) * width / most + 6, top + 13, f"{figure.value:,.3g}"))
    return _svg(height, rows)


def lines(series: Sequence[Series]) -> str:
    """Curves of one unit over one quantity, on logarithmic axes."""
    height, left, bottom, top = 320, 70, 40, 16
    right = _WIDTH - 250
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    across, up = _scale(xs, left, right), _scale(ys, height - bottom, top)
    rows = [f'<path d="M{left} {top}V{height - bottom}H{right}" fill="none" stroke="#222"/>']
    rows += [_text(across(x), height - bottom + 16, f"{x:,.0f}", anchor="middle") for x in sorted(set(xs))]
    rows += [_text(left - 6, up(y) + 4, f"{y:,.3g}", anchor="end") for y in (min(ys), max(ys))]
    rows.append(_text((left + right) / 2, height - 4, series[0].over, anchor="middle"))
    rows.append(_text(left + 6, top + 4, series[0].unit))
    for number, each in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in each.points)
        rows.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        rows += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>' for x, y in each.points]
        rows.append(f'<rect x="{right + 16}" y="{top + number * 20}" width="12" height="12" fill="{colour}"/>')
        rows.append(_text(right + 34, top + 11 + number * 20, each.what))
    return _svg(height, rows)


def _reached(figure: Figure, value: float) -> float:
    """1 where the target is met exactly, more where it is exceeded."""
    assert figure.target is not None
    goal = figure.target.value
    if figure.target.relation == ">=":
        return value / goal
    return goal / max(value, goal / 1000)


def _scale(values: Sequence[float], first: float, last: float) -> Callable[[float], float]:
    least, most = (math.log10(max(value, 1e-9)) for value in (min(values), max(values)))
    span = (most - least) or 1.0
    return lambda value: first + (math.log10(max(value, 1e-9)) - least) / span * (last - first)


def _bar(top: float, height: float, begin: float, end: float, scale: float, colour: str) -> str:
    width = max(1.0, (end - begin) * scale)
    return f'<rect x="{_LABELS + begin * scale:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _short(what: str) -> str:
    text = what.replace("`", "")
    return text if len(text) <= 62 else text[:60] + "…"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {_STYLE}>{escape(text)}</text>'


def _svg(height: int, rows: Sequence[str]) -> str:
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', background, *rows, "</svg>", ""])
