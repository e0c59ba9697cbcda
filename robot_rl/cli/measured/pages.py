"""Robust evaluation as one self-contained page of heat maps.

Knows: grids of cells, HTML. Does not know: how they came about.
"""

from __future__ import annotations

import html
from pathlib import Path

from robot_rl.cli.measured.tables import UNITS
from robot_rl.data.atomic import write_whole
from robot_rl.sim.robustness import AXES, Cell, Robustness

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1160px;margin:32px auto;padding:0 20px;color:#1c2430}
h1{font-size:24px}.maps{display:grid;gap:20px;grid-template-columns:repeat(auto-fill,minmax(320px,1fr))}
figure{margin:0;border:1px solid #e4e7ec;border-radius:8px;padding:10px}figcaption{color:#667085;font-size:13px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}th,td{padding:5px 9px;text-align:right}
th{color:#667085;font-weight:500}td{border:1px solid #fff}.worst{outline:2px solid #1c2430}"""


def write_robustness(path: Path, title: str, found: Robustness) -> None:
    """Write the page to ``path`` in one piece."""
    write_whole(path, render(title, found))


def render(title: str, found: Robustness) -> str:
    """Return the page: one map of friction and payload for every push and delay."""
    pairs = sorted({(cell.push, cell.delay_s) for cell in found.cells})
    maps = "".join(_map(found, push, delay_s) for push, delay_s in pairs)
    worst = ", ".join(f"{UNITS[axis]} {getattr(found.worst, axis):g}" for axis in AXES)
    episodes, falls = found.whole["episodes"], found.whole["fall_rate"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>"
        f"<p>{episodes} episodes in {len(found.cells)} cells; {falls:.1%} fell. In each cell the share of falls, below "
        f"it the velocity error [m/s]. Worst: {html.escape(worst)}.</p>"
        f'<div class="maps">{maps}</div></body></html>\n'
    )


def _map(found: Robustness, push: float, delay_s: float) -> str:
    cells = {(c.friction, c.payload_kg): c for c in found.cells if (c.push, c.delay_s) == (push, delay_s)}
    frictions, payloads = sorted({f for f, _ in cells}), sorted({p for _, p in cells})
    head = "".join(f"<th>{payload:+g} kg</th>" for payload in payloads)
    rows = "".join(
        f"<tr><th>friction {friction:g}</th>"
        + "".join(_cell(cells[friction, payload], found.worst) for payload in payloads)
        + "</tr>"
        for friction in frictions
    )
    return (
        f"<figure><figcaption>push {push:g} m/s, delay {1e3 * delay_s:g} ms</figcaption>"
        f"<table><tr><th></th>{head}</tr>{rows}</table></figure>"
    )


def _cell(cell: Cell, worst: Cell) -> str:
    falls, error = float(cell.result["fall_rate"] or 0.0), cell.result["lin_vel_error"]
    hue = round(140 * (1.0 - falls))  # green where none falls, red where all do
    mark = ' class="worst"' if cell is worst else ""
    below = "–" if error is None else f"{error:.3f}"
    return f'<td{mark} style="background:hsl({hue} 65% 82%)">{falls:.0%}<br><small>{below}</small></td>'
