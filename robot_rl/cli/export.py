"""Export a checkpoint: the policy with its contract, golden vectors and provenance as one ``.onnx`` file.

Knows: the layout of a run's folder.
Does not know: graphs and metadata (``learn.export``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from robot_rl import zoo
from robot_rl.cli.learning import find_checkpoint, load_learnt, read_about, sees_privileged
from robot_rl.cli.train import POLICY_FILE, export_agent


@dataclass(frozen=True)
class Args:
    """Export a run's newest checkpoint, or the one named; onnxruntime must reproduce it or nothing is written."""

    source: Annotated[Path, tyro.conf.Positional]
    """A run's folder, e.g. runs/go2_walk_ppo/2026-11-20_12-00-00, or one of its checkpoints/*.npz."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file to write; policy.onnx in the run's folder by default."""
    num_envs: int = 8
    """Environments that the policy acts in to record golden states."""


def run(args: Args) -> int:
    """Write the policy and print its path and hash."""
    from robot_rl.sim.env import make_env

    folder, path = find_checkpoint(args.source)
    about = read_about(folder)
    if sees_privileged(about):
        raise ValueError(
            f"{folder} holds a teacher: it sees {about['config']['actor_obs']!r}, which no robot measures; "
            "distil it into a student: robot-rl train STUDENT_RECIPE --teacher " + str(folder)
        )
    task = zoo.load("sim", f"tasks/{about['task']}").task()
    agent = load_learnt(path)
    env = make_env(task, num_envs=args.num_envs, seed=about["seed"])
    try:
        if env.contract.fingerprint != about["contract"]:
            raise ValueError(
                f"task {about['task']!r} was changed since {folder} was trained: its contract is "
                f"{env.contract.fingerprint[:12]}…, the run's was {about['contract'][:12]}…"
            )
        policy = export_agent(agent, env, about, args.out or folder / POLICY_FILE)
    finally:
        env.close()
    print(f"{policy}  from {path}, {agent.steps} steps")
    return 0
