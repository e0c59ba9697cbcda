"""One page per run: ``report.html``, self-contained, with the curves of a run and what made it.

Knows: ``metrics.jsonl`` and ``run.json`` of a run, groups of curves.
Does not know: algorithms; a number ``group/name`` becomes a curve in its group. How curves are drawn (``charts``).
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robot_rl.data.atomic import write_whole
from robot_rl.learn.charts import Curve, chart
from robot_rl.learn.metrics import METRICS_FILE, read_metrics

REPORT_FILE = "report.html"
RUN_FILE = "run.json"

GROUPS = {
    "episode": "Episodes",
    "reward": "Reward terms",
    "violation": "Constraint violations, share of environments",
    "cat": "Constraints as terminations",
    "loss": "Learning",
    "policy": "Policy",
    "time": "Speed",
}
"""Titles of the groups in the order of the page; groups not listed here follow under their own names."""

TITLES = {
    "episode/return": "Return",
    "episode/length": "Length [steps]",
    "episode/length_s": "Length [s]",
    "episode/terminated": "Share that terminated",
    "loss/kl": "KL divergence of an update [nat]",
    "loss/learning_rate": "Learning rate of the actor",
    "loss/entropy": "Entropy of the action [nat]",
    "loss/explained_variance": "Explained variance of the critic",
    "loss/clip_fraction": "Share of clipped ratios",
    "cat/chance": "Chance that a step ends the rewards",
    "cat/p_max_soft": "Largest chance of a soft constraint",
    "policy/std": "Exploration, standard deviation",
    "time/fps": "Environment steps per second",
    "time/collect_s": "Collection per iteration [s]",
    "time/update_s": "Update per iteration [s]",
    "time/env_s": "Environment per iteration [s]",
    "time/train_s": "Training time [s]",
}
LOGARITHMIC = ("loss/learning_rate", "loss/kl")

_STYLE = """
:root{--bg:#f7f8fa;--card:#fff;--ink:#1c2430;--dim:#667085;--rule:#e4e7ec;--line:#2563eb;--grid:#eef0f4}
@media(prefers-color-scheme:dark){:root{--bg:#11151b;--card:#1a2029;--ink:#e6e9ee;--dim:#98a2b3;--rule:#2b333f;
--line:#6ea8fe;--grid:#252c37}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;margin:0}h2{font-size:18px;margin:36px 0 12px}
.sub{color:var(--dim);margin:2px 0 20px}.tiles,.charts{display:grid;gap:14px}
.tiles{grid-template-columns:repeat(auto-fit,minmax(150px,1fr))}
.charts{grid-template-columns:repeat(auto-fill,minmax(340px,1fr))}
.tile,figure,.table{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 16px;margin:0}
.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums}
.tile span,figcaption{color:var(--dim);font-size:13px}
figcaption{display:flex;justify-content:space-between;gap:8px}figcaption b{color:var(--ink);font-weight:600}
svg{width:100%;height:auto;display:block}svg text{fill:var(--dim);font-size:11px}
.grid{stroke:var(--grid)}.raw{stroke:var(--line);opacity:.28;fill:none}.smooth{stroke:var(--line);stroke-width:2;fill:none}
table{border-collapse:collapse;width:100%;font-size:13px}td{padding:3px 12px 3px 0;vertical-align:top;
border-bottom:1px solid var(--grid)}td:first-child{color:var(--dim);white-space:nowrap;width:1%}
code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;overflow-wrap:anywhere}
.pair{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(420px,1fr))}
"""


def write_report(out: Path) -> Path:
    """Write ``out/report.html`` from the run's files and return its path.

    Raises:
        ValueError: The run has no ``metrics.jsonl`` or no finished iteration.
    """
    path = out / METRICS_FILE
    rows = read_metrics(path) if path.is_file() else []
    if not rows:
        raise ValueError(f"no finished iteration in {path}; a report needs at least one")
    about = json.loads((out / RUN_FILE).read_text()) if (out / RUN_FILE).is_file() else {}
    write_whole(out / REPORT_FILE, render(rows, about))
    return out / REPORT_FILE


def render(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        rows: Lines of ``metrics.jsonl``, oldest first, at least one.
        about: Content of ``run.json``: ``recipe``, ``config`` and any provenance.
    """
    title = html.escape(f"{about.get('recipe', 'run')} · seed {about.get('seed', '?')}")
    sections = "".join(_section(name, curves) for name, curves in _grouped(rows).items())
    provenance = {k: v for k, v in about.items() if k != "config"}
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style></head>'
        f'<body><main><h1>{title}</h1><p class="sub">{html.escape(_subtitle(about))}</p>{_tiles(rows)}{sections}'
        f'<h2>What made it</h2><div class="pair">{_table(provenance)}{_table(about.get("config", {}))}</div>'
        "</main></body></html>\n"
    )


def _subtitle(about: Mapping[str, Any]) -> str:
    parts = [f"{key} {about[key]}" for key in ("task", "robot", "algorithm") if key in about]
    if "num_envs" in about:
        parts.append(f"{about['num_envs']} environments")
    return " · ".join(parts)


def _tiles(rows: Sequence[Mapping[str, Any]]) -> str:
    """The numbers a person asks for first."""
    last = rows[-1]
    tiles = {"environment steps": _count(last["steps"]), "iterations": f"{last['iteration']:,.0f}"}
    if "time/train_s" in last:
        seconds = last["time/train_s"]
        tiles["training time"] = f"{seconds / 60.0:.1f} min"
        tiles["steps per second"] = f"{last['steps'] / max(seconds, 1e-9):,.0f}"
    for name, label in (("episode/return", "return, last 100 episodes"), ("episode/terminated", "of them terminated")):
        if last.get(name) is not None:
            tiles[label] = f"{last[name]:.1%}" if name.endswith("terminated") else f"{last[name]:.2f}"
    cells = "".join(f'<div class="tile"><b>{v}</b><span>{html.escape(k)}</span></div>' for k, v in tiles.items())
    return f'<div class="tiles">{cells}</div>'


def _count(n: float) -> str:
    return f"{n / 1e6:.2f} M" if n >= 1e6 else f"{n:,.0f}"


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Curve]]:
    """Collect one curve per number, by group, groups in the order of the page."""
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if "/" in name and value is not None:
                points.setdefault(name, []).append((row["steps"], value))
    groups: dict[str, list[Curve]] = {group: [] for group in GROUPS}
    for name, pairs in points.items():
        group, _, short = name.partition("/")
        label = TITLES.get(name, short.replace("_", " "))
        groups.setdefault(group, []).append(Curve(label, pairs, logarithmic=name in LOGARITHMIC))
    return {group: curves for group, curves in groups.items() if curves}


def _section(group: str, curves: Sequence[Curve]) -> str:
    figures = "".join(
        f"<figure><figcaption><b>{html.escape(c.title)}</b><span>{c.points[-1][1]:.4g}</span></figcaption>"
        f"{chart(c)}</figure>"
        for c in curves
    )
    return f'<h2>{html.escape(GROUPS.get(group, group))}</h2><div class="charts">{figures}</div>'


def _table(values: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<tr><td>{html.escape(str(k))}</td><td><code>{html.escape(_plain(v))}</code></td></tr>"
        for k, v in values.items()
    )
    return f'<div class="table"><table>{cells}</table></div>'


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
