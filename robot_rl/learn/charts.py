"""Line charts as inline SVG, without any plotting package; colours come from the page's CSS classes.

Knows: points, axes, round numbers.
Does not know: what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_MOST_POINTS = 360


@dataclass(frozen=True, slots=True)
class Curve:
    """One line."""

    title: str
    points: Sequence[tuple[float, float]]
    """(x, y), x rising."""
    logarithmic: bool = False
    """Whether y is drawn on a logarithmic axis; falls back to linear where a value is not positive."""


def chart(curve: Curve) -> str:
    """Return the curve as an ``<svg>`` element: every point faint, a smoothed line on top, labelled axes."""
    points = [(x, y) for x, y in curve.points if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return "<svg viewBox='0 0 360 40'><text x='10' y='24'>no finite values</text></svg>"
    log = curve.logarithmic and all(y > 0.0 for _, y in points)
    drawn = binned([(x, math.log10(y) if log else y) for x, y in points], _MOST_POINTS)
    ys = [y for _, y in drawn]
    y_ticks = log_ticks(min(ys), max(ys)) if log else ticks(min(ys), max(ys))
    low, high = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    x_ticks = ticks(0.0, drawn[-1][0], count=4)
    x_high = max(drawn[-1][0], 1e-12)

    def at(x: float, y: float) -> tuple[float, float]:
        px = _LEFT + (WIDTH - _LEFT - _RIGHT) * x / x_high
        py = _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - y) / max(high - low, 1e-12)
        return px, py

    parts = [_rule(at(0.0, y)[1], label(10.0**y if log else y)) for y in y_ticks]
    parts += [_tick(at(x, low)[0], label(x)) for x in x_ticks if x <= x_high]
    parts.append(_path([at(*p) for p in drawn], "raw"))
    parts.append(_path([at(*p) for p in smoothed(drawn)], "smooth"))
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def binned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most ``most`` points, each the mean of equally many neighbours."""
    size = math.ceil(len(points) / most)
    cut = (points[i : i + size] for i in range(0, len(points), size))
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in cut]


def smoothed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the centred moving average over a twentieth of the points, shorter at the ends."""
    half = len(points) // 40
    result = []
    for i, (x, _) in enumerate(points):
        reach = min(half, i, len(points) - 1 - i)
        window = points[i - reach : i + reach + 1]
        result.append((x, sum(y for _, y in window) / len(window)))
    return result


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return about ``count`` round numbers, 1, 2 or 5 times a power of ten apart, that span [low, high]."""
    span = high - low
    if span <= 0.0:
        span = abs(high) or 1.0
        low, high = low - span / 2.0, high + span / 2.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * (1.0 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return whole powers of ten around [low, high], as exponents, thinned to six."""
    first, last = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
    return [float(i) for i in range(first, last + 1, math.ceil((last - first) / 5))]


def label(x: float) -> str:
    """Return a short number: ``20M``, ``1.5k``, ``0.25``, ``1e-5``."""
    size = abs(x)
    for unit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{x / unit:.4g}{suffix}"
    if size and size < 1e-3:
        digits, _, power = f"{x:.3g}".partition("e")
        return f"{digits}e{int(power)}" if power else digits
    return f"{x:.3g}" if size > 1e-12 else "0"


def _rule(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _tick(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{text}</text>'


def _path(points: Sequence[tuple[float, float]], kind: str) -> str:
    if len(points) == 1:
        points = [points[0], points[0]]
    steps = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{kind}" points="{steps}"/>'
