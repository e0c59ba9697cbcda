"""The cart swings its hanging pole up and keeps it there, in the middle of the rail.

The reward is dm_control's smooth swing-up: upright, centred, gently and slowly, each a factor in [0, 1].
"""

from __future__ import annotations

from robot_rl.contract.arrays import Array, namespace
from robot_rl.contract.spec import Command
from robot_rl.sim.task import Commands, Obs, Outcome, Range, Reward, Task

SLIDER, POLE = 0, 1
HANGING = 3.14159265


def task() -> Task:
    """Return the task; the pole starts near hanging, at rest."""
    return Task(
        name="cartpole_swingup",
        robot="cartpole",
        obs={"joint_sin_cos": Obs(), "joint_vel_rel": Obs(scale=0.2)},
        rewards={"swing_up": Reward(swing_up, 1.0)},
        dones={},
        action_kind="joint_effort",
        action_scale=10.0,
        rate_hz=50.0,
        sim_rate_hz=200.0,
        episode_s=10.0,
        commands=Commands(Command((), (), ())),
        resets={
            "joint_pos": Range((-0.2, HANGING - 0.3), (0.2, HANGING + 0.3)),
            "joint_vel": Range(-0.05, 0.05),
        },
    )


def swing_up(o: Outcome) -> Array:
    """Product of upright, centred, gentle and slow, 1 at best (dm_control suite, cartpole.py)."""
    q, qd = o.after.joint_pos, o.after.joint_vel
    upright = 0.5 * (1.0 + namespace(q).cos(q[..., POLE]))
    centred = 0.5 * (1.0 + near_zero(q[..., SLIDER], 2.0))
    gentle = 0.8 + 0.2 * (1.0 - namespace(o.action).clip(o.action[..., 0], -1.0, 1.0) ** 2)
    slow = 0.5 * (1.0 + near_zero(qd[..., POLE], 5.0))
    return upright * centred * gentle * slow


def near_zero(x: Array, margin: float) -> Array:
    """1 at 0, 0.1 at +-margin: dm_control's Gaussian tolerance."""
    return 0.1 ** ((x / margin) ** 2)
