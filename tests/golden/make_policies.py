"""Make the small policy files in ``tests/golden/policies`` that robot-side tests read without torch or onnx.

Run from the checkout: ``python tests/golden/make_policies.py``. Weights are drawn from fixed seeds; time and
library versions in the provenance are those of the run.

    go2_tiny       a go2 policy of 45-32-16-12 that hardly leaves the default pose
    go2_tiny2      another one of the same contract, to swap to
    go2_gsde       go2_tiny with gSDE: it explores where it is asked to
    go2_gsde2      another one of the same contract, of other widths
    go2_gru        the same contract with a memory, a GRU of 16 features
    go2_lstm       another one with an LSTM of 12 features, and with gSDE
    go2_history    other terms, clips, scales and histories; joints in another order than the robot's
    cartpole_tiny  a cart-pole policy with a passive joint and an effort law
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from robot_rl.contract.spec import ActionLaw, Command, Contract, JointLimits, ObsTerm
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.nets import DenseNet
from robot_rl.learn.ppo import Config, make_agent
from robot_rl.learn.recurrent import RecurrentActor

FOLDER = Path(__file__).parent / "policies"


def main() -> None:
    go2, cartpole = load_robot("go2"), load_robot("cartpole")
    tiny = go2_contract(go2)
    for name, seed in (("go2_tiny", 1), ("go2_tiny2", 2)):
        make(name, random_net((45, 32, 16, 12), seed=seed, gain=0.1), tiny, go2, seed)
    std = 0.05 * np.linspace(0.5, 1.5, 12, dtype=np.float32)
    for name, seed, features in (("go2_gsde", 1, 16), ("go2_gsde2", 2, 20)):
        net = random_net((45, 32, features, 12), seed=seed, gain=0.1)
        make(name, replace(net, std=np.tile(std, (features, 1))), tiny, go2, seed)
    make("go2_gru", random_memory(Config(memory="gru", memory_features=16), seed=4), tiny, go2, 4)
    lstm = Config(memory="lstm", memory_features=12, exploration="gsde", log_std=-3.0)
    make("go2_lstm", random_memory(lstm, seed=5), tiny, go2, 5)
    history = history_contract(go2)
    make("go2_history", random_net((history.obs_size, 32, 12), seed=3, gain=0.5), history, go2, 3)
    swing = cartpole_contract(cartpole)
    make("cartpole_tiny", random_net((swing.obs_size, 16, 1), seed=6, gain=1.0), swing, cartpole, 6)


def make(name: str, policy: DenseNet | RecurrentActor, contract: Contract, robot: Robot, seed: int) -> None:
    about = Provenance(recipe=name, seed=seed, steps=0, command="python tests/golden/make_policies.py")
    bundle = export_policy(policy, contract, FOLDER / f"{name}.onnx", provenance=about, joints=robot.joints)
    print(name, bundle.path.stat().st_size, "bytes", bundle.file_sha256[:12])


def go2_contract(robot: Robot) -> Contract:
    """The six terms of a velocity policy, joints in the robot's order, 50 Hz."""
    n = len(robot.joints)
    return Contract(
        robot=robot.name,
        task="go2_velocity",
        joints=robot.joints,
        obs=(
            ObsTerm("base_ang_vel", 3, (0.2,) * 3),
            ObsTerm("projected_gravity", 3, (1.0,) * 3),
            ObsTerm("velocity_commands", 3, (1.0,) * 3),
            ObsTerm("joint_pos_rel", n, (1.0,) * n),
            ObsTerm("joint_vel_rel", n, (0.05,) * n, clip=(-100.0, 100.0)),
            ObsTerm("last_action", n, (1.0,) * n),
        ),
        command=Command(),
        action=ActionLaw("joint_position", scale=(0.21739130434782608, 0.25, 1 / 3) * 4, offset=robot.default_pos),
        stiffness=robot.stiffness,
        damping=robot.damping,
        rate_hz=50.0,
        sim_rate_hz=200.0,
        limits=JointLimits(robot.pos_low, robot.pos_high, robot.vel, robot.effort),
        imu_frame=robot.imu_frame,
    )


def history_contract(robot: Robot) -> Contract:
    """Joints by kind instead of by leg, with clips that bite and histories of several lengths."""
    order = [3 * leg + kind for kind in range(3) for leg in (1, 0, 3, 2)]
    base = go2_contract(robot)

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[i] for i in order)

    limits = base.limits
    return replace(
        base,
        joints=pick(base.joints),
        obs=(
            ObsTerm("joint_vel_rel", 12, tuple(0.05 + 0.001 * i for i in range(12)), clip=(-8.0, 8.0), history=3),
            ObsTerm("projected_gravity", 3, (1.0, 1.1, 1.2), history=2),
            ObsTerm("base_ang_vel", 3, (0.25,) * 3, clip=(-1.0, 1.5)),
            ObsTerm("velocity_commands", 3, (2.0, 2.0, 0.25)),
            ObsTerm("joint_pos", 12, (0.3,) * 12),
            ObsTerm("joint_effort", 12, (0.02,) * 12),
            ObsTerm("last_action", 12, (1.0,) * 12, history=2),
        ),
        action=ActionLaw("joint_position_relative", pick(base.action.scale), pick(base.action.offset)),
        stiffness=pick(base.stiffness),
        damping=pick(base.damping),
        limits=JointLimits(pick(limits.pos_low), pick(limits.pos_high), pick(limits.vel), pick(limits.effort)),
    )


def cartpole_contract(robot: Robot) -> Contract:
    """One motor, one passive joint, an effort law."""
    motors = [robot.index(joint) for joint in robot.actuated]

    def pick(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(values[i] for i in motors)

    return Contract(
        robot=robot.name,
        task="cartpole_swingup",
        joints=robot.actuated,
        passive=robot.passive,
        obs=(
            ObsTerm("joint_pos", 2, (0.5, 1.0), clip=(-5.0, 5.0)),
            ObsTerm("joint_sin_cos", 4, (1.0,) * 4),
            ObsTerm("joint_vel_rel", 2, (0.2, 0.1)),
        ),
        command=Command((), (), ()),
        action=ActionLaw("joint_effort", scale=(10.0,), offset=pick(robot.default_pos)),
        stiffness=pick(robot.stiffness),
        damping=pick(robot.damping),
        rate_hz=50.0,
        sim_rate_hz=200.0,
        limits=JointLimits(pick(robot.pos_low), pick(robot.pos_high), pick(robot.vel), pick(robot.effort)),
        imu_frame=robot.imu_frame,
    )


def random_memory(config: Config, *, seed: int) -> RecurrentActor:
    """A go2 policy whose fresh last layer is enlarged until what it remembers shows, within half of its range."""
    config = replace(config, actor_hidden=(32, 16), seed=seed)
    actor = cast("RecurrentActor", make_agent(config, {"policy": 45, "action": 12}).actor)
    with torch.no_grad():
        actor.head.mlp.linears()[-1].weight.mul_(30.0)
    return actor


def random_net(sizes: tuple[int, ...], *, seed: int, gain: float, activation: str = "elu") -> DenseNet:
    """Uniform ±1/sqrt(fan in); the last layer times ``gain``."""
    rng = np.random.default_rng(seed)
    layers = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        bound = (gain if i == len(sizes) - 2 else 1.0) / np.sqrt(a)
        layers.append((rng.uniform(-bound, bound, (b, a)).astype("f4"), rng.uniform(-bound, bound, b).astype("f4")))
    return DenseNet(tuple(layers), activation)


if __name__ == "__main__":
    main()
