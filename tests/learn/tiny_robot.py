"""A robot of one sliding joint, its policy and its store: what the learner's tests follow.

The joint obeys ``v += 0.2 (a + wind)``, ``x += 0.2 v``; the released policy brakes well but knows no wind.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_rl.contract.spec import ActionLaw, Command, Contract, JointLimits, ObsTerm
from robot_rl.data.episodes import EpisodeWriter
from robot_rl.data.transition import Mode, Who, row_dtype
from robot_rl.hardware.robot import Robot, Safety
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.nets import DenseNet
from robot_rl.runtime.probe import Probe

ONE = (1.0,)
SAFETY = Safety(1.0, 0.01, ONE, 1.0, 1.0, 0.1, 0.2, 2.0, 1.0)
ROBOT = Robot("slider", "One joint", ("slide",), (-2.0,), (2.0,), ONE, ONE, (0.0,), ONE, ONE, SAFETY, Path("x.xml"))
CONTRACT = Contract(
    "slider", "rest", ("slide",), (ObsTerm("joint_pos", 1, ONE), ObsTerm("joint_vel_rel", 1, ONE)),
    Command((), (), ()), ActionLaw("joint_effort", ONE, (0.0,)), ONE, ONE, 50.0, 200.0,
    JointLimits((-2.0,), (2.0,), ONE, ONE),
)  # fmt: skip
DTYPE = row_dtype(CONTRACT, ROBOT)


def released_net() -> DenseNet:
    """``tanh(-x - 1.5 v)`` as an ELU network of eight units: two carry x + 4 and v + 4, the others carry nothing."""
    w1, b1 = np.zeros((8, 2), np.float32), np.full(8, 4.0, np.float32)
    w1[0, 0] = w1[1, 1] = 1.0
    w2 = np.zeros((1, 8), np.float32)
    w2[0, :2] = (-1.0, -1.5)
    return DenseNet(layers=((w1, b1), (w2, np.array([10.0], np.float32))), activation="elu")


def write_released(path: Path) -> Path:
    export_policy(released_net(), CONTRACT, path, provenance=Provenance("slider_rest", 0, 0))
    return path


def reward(now: np.ndarray, then: np.ndarray) -> np.ndarray:
    """One at rest in the middle."""
    return (1.0 - then["joint_pos"][:, 0] ** 2 - 0.1 * then["joint_vel"][:, 0] ** 2).astype(np.float32)


class Slider:
    """The robot: acts by a function of the observation, records every tick."""

    def __init__(self, store: Path, *, wind: float, seed: int = 0, episode: int = 50) -> None:
        self.writer = EpisodeWriter(store, CONTRACT, ROBOT)
        self.rng = np.random.default_rng(seed)
        self.wind, self.episode, self.tick = wind, episode, 0
        self.probe = Probe(1, seed=seed)

    def run(self, act, episodes: int, *, explore: float = 0.0) -> float:
        """Record whole episodes, exploring as the runtime does, and return the mean |x| over their second halves."""
        far = []
        self.probe.std = explore
        for _ in range(episodes):
            rows = np.zeros(self.episode, DTYPE)
            x, v = self.rng.uniform(-1.0, 1.0, 2)
            self.writer.start_episode()
            for row in rows:
                obs = np.array([x, v], np.float32)
                wanted = np.clip(np.asarray(act(obs), np.float32).ravel()[:1], -1.0, 1.0)
                a = float(self.probe(wanted)[0])
                row["tick"], self.tick = self.tick, self.tick + 1
                row["mode"], row["who"] = Mode.POLICY, Who.POLICY
                row["obs"], row["joint_pos"], row["joint_vel"] = obs, x, v
                row["action"] = row["sent_action"] = a
                row["policy_action"] = wanted
                row["quat_xyzw"] = (0.0, 0.0, 0.0, 1.0)
                v = float(np.clip(v + 0.2 * (a + self.wind), -2.0, 2.0))
                x = float(np.clip(x + 0.2 * v, -3.0, 3.0))
            rows["truncated"][-1] = 1
            self.tick += 1  # a gap: the next episode is no successor
            self.writer.append(rows)
            self.writer.end_episode("time")
            far.append(np.abs(rows["joint_pos"][self.episode // 2 :]).mean())
        self.writer.flush()
        return float(np.mean(far))
