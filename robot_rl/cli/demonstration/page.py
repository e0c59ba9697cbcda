"""The demo as one self-contained page, and as a table on the terminal.

Knows: the result of ``measure.summarise``. Does not know: how it was measured.
"""

from __future__ import annotations

import html
import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from robot_rl.learn.charts import Curve, chart

COLUMNS = {
    "lin_vel_error": ("velocity error [m/s]", "m/s", "{:.3f}"),
    "yaw_rate_error": ("yaw rate error [rad/s]", "rad/s", "{:.3f}"),
    "tracking_error": ("tracking error, their sum", "sum", "{:.3f}"),
    "falls": ("falls", "falls", "{:.0f}"),
    "seconds": ("driven [s]", "s", "{:.0f}"),
    "tick_p50_us": ("tick p50 [us]", "p50 us", "{:.0f}"),
    "tick_p99_us": ("tick p99 [us]", "p99 us", "{:.0f}"),
}
"""Per measurement: title on the page, title in the terminal, format."""
CURVES = {
    "tracking_error": "Tracking error, sum of [m/s] and [rad/s]",
    "lin_vel_error": "Velocity error [m/s]",
    "yaw_rate_error": "Yaw rate error [rad/s]",
    "falls": "Falls per half minute of robot time",
    "tick_p99_us": "Tick, 99th percentile [us]",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:32px auto;padding:0 20px;color:#1c2430}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{padding:4px 14px 4px 0;text-align:right;
border-bottom:1px solid #e4e7ec}td:first-child,th:first-child{text-align:left}.charts{display:grid;gap:16px;
grid-template-columns:repeat(auto-fill,minmax(340px,1fr))}figure{margin:0;border:1px solid #e4e7ec;border-radius:8px;
padding:10px}svg{width:100%}svg text{font-size:11px;fill:#667085}.grid{stroke:#eef0f4}.raw{stroke:#2563eb;opacity:.3;
fill:none}.smooth{stroke:#2563eb;stroke-width:2;fill:none}pre{white-space:pre-wrap;color:#667085}"""


def verdict(result: dict[str, Any]) -> str:
    """Return the outcome in one sentence."""
    s = result["summary"]
    return (
        f"On the changed robot the fine-tuned policy's tracking error is {s['tracking_error_after']:.3f} against "
        f"{s['tracking_error_before']:.3f} of the released one ({100.0 * s['improvement']:+.0f} % better), falls "
        f"{s['falls_after']} against {s['falls_before']}; {s['swaps']} live swaps, {s['refusals']} refused, "
        f"{s['rollbacks']} rolled back, {s['transitions']} transitions recorded."
    )


def print_table(result: dict[str, Any]) -> None:
    """Print the windows and the verdict."""
    table = Table(
        title="velocity and yaw rate errors, falls, tick times",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stretch", no_wrap=True)
    for _, short, _ in COLUMNS.values():
        table.add_column(short, justify="right", no_wrap=True)
    for name, row in result["windows"].items():
        table.add_row(name, *(pattern.format(row[key]) for key, (_, _, pattern) in COLUMNS.items()))
    console = Console()
    console.print(table)
    console.print(verdict(result))


def render(result: dict[str, Any]) -> str:
    """Return the page."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title, _, _ in COLUMNS.values())
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{pattern.format(row[key])}</td>" for key, (_, _, pattern) in COLUMNS.items())
        + "</tr>"
        for name, row in result["windows"].items()
    )
    figures = "".join(
        f"<figure><figcaption>{html.escape(title)}</figcaption>"
        + chart(Curve(title, [(point["tick"], point[key]) for point in result["curve"]]))
        + "</figure>"
        for key, title in CURVES.items()
    )
    spans = "".join(f"<li>{html.escape(name)}: ticks {first} to {last}</li>" for name, first, last in result["spans"])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>robot-rl demo</title>'
        f"<style>{_STYLE}</style></head><body><h1>robot-rl demo</h1><p>{html.escape(verdict(result))}</p>"
        f"<table><tr><th>stretch</th>{head}</tr>{rows}</table>"
        f"<h2>Over the robot's ticks</h2><ul>{spans}</ul>"
        f"<p>Policies were swapped in at ticks {', '.join(map(str, result['swaps'])) or 'none'}.</p>"
        f'<div class="charts">{figures}</div>'
        f"<h2>What made it</h2><pre>{html.escape(json.dumps(result['about'], indent=2))}</pre></body></html>\n"
    )
