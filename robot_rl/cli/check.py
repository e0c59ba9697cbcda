"""Check a policy file against a robot: file, contract, robot, network; a table and an exit code.

Knows: how the findings are shown.
Does not know: what is compared (``contract.check``, ``contract.golden``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robot_rl import zoo
from robot_rl.contract.check import ERROR, OK, WARN, Finding, check_robot
from robot_rl.contract.golden import Bundle, read_bundle
from robot_rl.contract.sight import shown
from robot_rl.hardware.robot import Robot, load_robot

REFUSED = 1

_STYLES = {OK: "green", WARN: "yellow", ERROR: "bold red"}
_WORDS = {OK: "ok", WARN: "look", ERROR: "REFUSED"}


@dataclass(frozen=True)
class Args:
    """Check a policy before it moves anything: exit code 0 accepted, 1 refused, 2 wrong use."""

    policy: Annotated[str, tyro.conf.Positional]
    """An .onnx file, or the name of a released policy."""
    robot: str = ""
    """A robot of hardware/; the policy's own by default."""
    rate_hz: float | None = None
    """Rate of the control loop, where it is fixed already [Hz]."""
    record: Path | None = None
    """An episode store: repeat every action that the policy took there, those of seeded exploration too."""
    json: bool = False
    """Print one JSON object instead of the table."""


def run(args: Args) -> int:
    """Print every row and return 0 where all are accepted, 1 where one is refused."""
    path = zoo.find_policy(args.policy)
    robot = load_robot(args.robot) if args.robot else None
    bundle, findings = inspect(path, robot, args.rate_hz)
    if bundle is not None and args.record is not None:
        findings.append(_record(bundle, args.record))
    accepted = all(finding.ok for finding in findings)
    if args.json:
        print(json.dumps(_as_json(path, bundle, findings, accepted)))
    else:
        _show(path, bundle, findings, accepted)
    return 0 if accepted else REFUSED


def inspect(path: Path, robot: Robot | None, rate_hz: float | None = None) -> tuple[Bundle | None, list[Finding]]:
    """Return what the file holds and every finding; the bundle is None where the file itself is refused.

    Args:
        path: The policy file.
        robot: The robot it shall run on, or None for the one that it names.
        rate_hz: The rate of the control loop, where it is fixed already [Hz].

    Raises:
        ValueError: The policy names a robot that no folder in ``hardware`` describes.
        FileNotFoundError: There is no such file.
    """
    try:
        bundle = read_bundle(path)
    except ValueError as error:
        return None, [Finding("file", path.name, "", ERROR, _reason(error, path))]
    robot = robot or load_robot(bundle.contract.robot)
    whole = Finding(
        "file", f"sha256 {bundle.file_sha256[:12]}", "", OK, "whole, unaltered, reproduces its golden vectors"
    )
    return bundle, [whole, *check_robot(bundle.contract, robot, rate_hz=rate_hz), _network(bundle)]


def _network(bundle: Bundle) -> Finding:
    """Replay the network's golden actions with this machine's onnxruntime."""
    import onnxruntime

    from robot_rl.runtime.policy import Policy

    here = f"onnxruntime {onnxruntime.__version__}"
    steps = f"{len(bundle.golden)} golden steps" + (", also exploring (gSDE)" if bundle.exploration else "")
    if bundle.memory is not None:
        steps += f", in sequence ({bundle.memory.kind}, {bundle.memory.features} features)"
    try:
        policy = Policy(bundle, bundle.path.read_bytes())
        policy.prove()
    except Exception as error:  # onnxruntime's errors share no base class of their own
        return Finding("network", steps, here, ERROR, _reason(error, bundle.path))
    golden = bundle.golden
    worst = max(
        float(np.max(np.abs(policy.infer(obs, **shown(bundle.contract.images, step)) - action)))
        for step, (obs, action) in enumerate(zip(golden.obs.astype(np.float32), golden.actions, strict=True))
    )
    return Finding("network", steps, here, OK, f"largest difference {worst:.1e}")


def _record(bundle: Bundle, folder: Path) -> Finding:
    """Compare what the policy answered while it was recorded with what it answers here."""
    from robot_rl.data.episodes import read_episodes
    from robot_rl.runtime.explorer import ABOUT
    from robot_rl.runtime.policy import Policy
    from robot_rl.runtime.repeat import repeat_actions
    from robot_rl.runtime.rows import DRIVING

    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; --record wants an episode store")
    policy = Policy(bundle, bundle.path.read_bytes())
    count = same = explored = 0
    worst, untold = 0.0, list[str]()
    for episode in read_episodes(folder):
        mine = (episode.rows["policy"] == policy.fingerprint) & np.isin(episode.rows["mode"], sorted(DRIVING))
        rows, about = episode.rows[mine], episode.events[0]
        if not len(rows):
            continue
        try:
            answers = repeat_actions(policy, rows, episode.events)
        except ValueError as reason:  # one episode that cannot be repeated hides no other
            untold.append(str(reason))
            continue
        error = np.abs(answers - rows["policy_action"]).max(-1)
        count, same, worst = count + len(rows), same + int(np.sum(error == 0.0)), max(worst, float(error.max()))
        explored += len(rows) if ABOUT in about else 0
    wide = f"{count} actions, {explored} of them exploring"
    if not count and not untold:
        return Finding("record", wide, str(folder), WARN, "the record holds no tick of this policy")
    message = f"{same} of {count} repeated to the bit, largest difference {worst:.1e}"
    if untold:
        message += f"; {len(untold)} episodes cannot be repeated: {untold[0]}"
    severity = ERROR if not worst <= 1e-5 else WARN if untold or same < count else OK
    return Finding("record", wide, str(folder), severity, message)


def _reason(error: Exception, path: Path) -> str:
    """Return the error less the path that it begins with; the title has it."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _as_json(path: Path, bundle: Bundle | None, findings: list[Finding], accepted: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"policy": str(path), "accepted": accepted, "findings": [asdict(f) for f in findings]}
    if bundle is not None:
        found |= {
            "robot": bundle.contract.robot,
            "task": bundle.contract.task,
            "file_sha256": bundle.file_sha256,
            "contract_sha256": bundle.contract.fingerprint,
            "provenance": bundle.provenance,
        }
    return found


def _show(path: Path, bundle: Bundle | None, findings: list[Finding], accepted: bool) -> None:
    console = Console()
    table = Table(title=str(path), title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("", "check", "policy", "robot", "remark"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        word = Text(_WORDS[finding.severity], style=_STYLES[finding.severity])
        table.add_row(word, *map(Text, (finding.name, finding.policy_value, finding.robot_value, finding.message)))
    console.print(table)
    if bundle is not None:
        about = {k: v for k, v in bundle.provenance.items() if v != "" and not isinstance(v, dict)}
        console.print(Text("from " + ", ".join(f"{k} {v}" for k, v in about.items())), style="dim")
    refused = sum(not finding.ok for finding in findings)
    verdict = "accepted" if accepted else f"refused for {refused} reason{'s' * (refused > 1)}"
    console.print(Text(verdict, style=_STYLES[OK if accepted else ERROR]))
