"""From recorded lifts to a judge of pictures and a reward, in a process of its own: MuJoCo chooses its GL once.

Half of the episodes are an expert's; in the others it goes through the same moves with its gripper open.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from robot_rl import zoo
from robot_rl.cli.main import main
from robot_rl.contract.judge import Judge
from robot_rl.contract.spec import ImageTerm
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.data.labels import load_labels
from robot_rl.data.transition import WORKSPACE, Mode, Who, row_dtype
from robot_rl.learn.judged import Judged
from robot_rl.sim.backends import make_physics
from robot_rl.sim.env import make_env
from robot_rl.sim.expert import load_expert
from robot_rl.sim.world import World

TASK = dataclasses.replace(zoo.load("sim", "tasks/panda_lift").task(), dones={}, episode_s=6.0)
SIZE, STEPS, COPIES = 40, 60, 4
FIELDS = ("joint_pos", "joint_vel", "quat_xyzw", *WORKSPACE)


def record(store: Path, rounds: int, seed: int) -> None:
    """Write ``rounds`` episodes of each of four copies; in the last two the gripper stays open."""
    world = World(TASK, make_physics(TASK, num_envs=COPIES, threads=1), seed=seed)
    act, dtype = load_expert("panda_lift", world.contract, world.robot), row_dtype(world.contract, world.robot)
    writer, tick = EpisodeWriter(store, world.contract, world.robot), 0
    for _ in range(rounds):
        obs, rows = world.reset(), np.zeros((COPIES, STEPS), dtype)
        for t in range(STEPS):
            for name in FIELDS:
                rows[name][:, t] = getattr(world.state, name)
            action = act(world.state)
            action[2:, -1] = 1.0
            rows["obs"][:, t], rows["action"][:, t] = obs["policy"], action
            obs = world.step(action).obs
        rows["mode"], rows["who"] = Mode.POLICY, Who.POLICY
        rows["truncated"][:, -1] = 1
        for episode in rows:
            episode["tick"] = np.arange(tick, tick + STEPS)
            tick += STEPS + 1
            writer.start_episode()
            writer.append(episode)
            writer.end_episode("time")
    writer.close()
    world.close()


def pictures(folder: Path) -> None:
    """A judge learnt from eight episodes of each kind is right about four new ones, whose pictures it never saw."""
    record(folder / "store", rounds=4, seed=1)
    record(folder / "fresh", rounds=1, seed=2)
    look = ["--by", "task", "--camera", "front", "--size", str(SIZE)]
    assert main(["label", str(folder / "store"), "--out", str(folder / "a.npz"), "--every", "4", *look]) == 0
    assert main(["label", str(folder / "fresh"), "--out", str(folder / "b.npz"), "--every", "6", *look]) == 0
    data, fresh = load_labels(folder / "a.npz"), load_labels(folder / "b.npz")
    assert data.inputs.shape == (16 * 15, SIZE, SIZE, 3)
    assert set(np.unique(data.episode[data.success])) <= {0, 1, 4, 5, 8, 9, 12, 13}
    assert 20 < data.success.sum() < 120
    assert main(["judge", str(folder / "a.npz"), "--out", str(folder / "judge.onnx"), "--updates", "120"]) == 0
    judge = Judge(folder / "judge.onnx")
    assert (judge.spec.source, judge.spec.task) == ("pixels/front", "panda_lift")
    says = judge.success(fresh.inputs)
    right, wrong = says[fresh.success].mean(), says[~fresh.success].mean()
    print(f"fresh episodes: {right:.2f} of successes seen, {wrong:.2f} of failures taken for one; {judge.spec}")
    assert right >= 0.8
    assert wrong <= 0.1
    reward(judge)


def reward(judge: Judge) -> None:
    """Beside a policy it pays for what it sees: the expert who lifts, not the one who leaves the cube."""
    seen = dataclasses.replace(TASK, cameras=(ImageTerm("front", SIZE, SIZE),))
    env = make_env(seen, num_envs=2, seed=7, threads=1)
    world = Judged(env, judge.success, judge.spec.source)  # type: ignore[arg-type]
    act = load_expert("panda_lift", env.contract, env.robot)
    paid, due = np.zeros(2), np.zeros(2)
    world.reset()
    import torch

    for _ in range(50):
        action = act(env.world.state)
        action[1, -1] = 1.0
        step = world.step(torch.from_numpy(action))
        paid += step.reward.numpy()
        due += [step.log["judge/task_reward"], 0.0]
    world.close()
    print(f"paid {paid}")
    assert paid[0] >= 5.0
    assert paid[1] <= 2.0
    assert due[0] > 0.0


if __name__ == "__main__":
    pictures(Path(sys.argv[1]))
