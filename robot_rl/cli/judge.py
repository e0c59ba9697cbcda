"""Train a judge of success from labelled frames: a classifier, calibrated, exported with what it is worth.

Knows: files of labels. Does not know: how classifiers learn (``learn.success``), who uses them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Args:
    """Learn from files that robot-rl label wrote. Example: robot-rl judge lift.npz --out lift_judge.onnx"""

    labels: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of labelled frames, of one source."""
    out: Path
    """The .onnx file to write."""
    precision: float | None = None
    """How often it shall be right where it says success, on frames held out; decides the threshold."""
    updates: int | None = None
    """Gradient steps."""
    seed: int = 0
    """Of the split into training, calibration and test, of weights and minibatches."""


def run(args: Args) -> int:
    """Train, calibrate, write, and print how good it is on frames of episodes that it never saw."""
    from robot_rl.data.labels import join, load_labels
    from robot_rl.learn import success
    from robot_rl.learn.success_file import export_judge

    if not args.labels:
        raise ValueError("no labels: name files that robot-rl label wrote")
    data = join([load_labels(path) for path in args.labels])
    wanted = {"precision": args.precision, "updates": args.updates, "seed": args.seed}
    cfg = dataclasses.replace(success.Config(), **{name: value for name, value in wanted.items() if value is not None})
    found = success.train(data, cfg)
    judge = export_judge(found, data, args.out)
    report, wins = found.report, int(data.success.sum())
    print(f"{args.out}  looks at {judge.spec.source}, {len(data.success)} frames, {wins} successes")
    print(
        f"on {report.held_out} frames held out: precision {report.precision:.1%}, recall {report.recall:.1%} at "
        f"probability {found.threshold:.3f}; calibration error {report.calibration_error:.3f} "
        f"(before the temperature of {found.temperature:.2f}: {report.uncalibrated_error:.3f})"
    )
    return 0
