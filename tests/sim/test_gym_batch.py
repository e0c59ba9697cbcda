"""The batched copies of Gymnasium's MuJoCo tasks against Gymnasium itself."""

from __future__ import annotations

import pytest
import torch

from robot_rl.sim.gym import GymWorld
from robot_rl.sim.gym_batch import LAWS, GymBatch, make_gym_world


def actions(env: GymBatch, steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [2.4 * torch.rand(env.num_envs, env.num_actions, generator=generator) - 1.2 for _ in range(steps)]


@pytest.mark.parametrize("name", sorted(LAWS))
def test_every_step_is_gymnasiums_bit_for_bit(name: str) -> None:
    """Two copies over 1,005 steps of random actions, some out of bounds: every fall, and every end by the clock."""
    slow, fast = GymWorld(name, num_envs=2, seed=11), GymBatch(name, num_envs=2, seed=11, threads=2)
    assert (fast.obs_sizes, fast.num_actions) == (slow.obs_sizes, slow.num_actions)
    torch.testing.assert_close(fast.reset(), slow.reset(), rtol=0.0, atol=0.0)
    ends = 0
    for action in actions(fast, 1005):
        ours, theirs = fast.step(action), slow.step(action)
        torch.testing.assert_close(tuple(ours)[:5], tuple(theirs)[:5], rtol=0.0, atol=0.0)
        assert ours.log == pytest.approx(theirs.log)
        ends += len(theirs.log) > 0
    assert ends >= 1
    slow.close()


def test_a_fall_and_the_clock_both_occur() -> None:
    """So that the comparison above has seen both ways an episode ends."""
    fallen, cut = GymBatch("Hopper-v5", num_envs=2, seed=0), GymBatch("Swimmer-v5", num_envs=2, seed=0)
    for env in (fallen, cut):
        env.reset()
    falls = sum(float(fallen.step(a).terminated.sum()) for a in actions(fallen, 200))
    assert falls >= 2
    steps = [cut.step(a) for a in actions(cut, 1000)]
    assert [bool(s.truncated.any()) for s in steps] == [False] * 999 + [True]
    assert not torch.equal(steps[-1].obs["policy"], steps[-1].next_obs["policy"])


def test_a_stored_state_goes_on_bit_for_bit() -> None:
    env, other = (GymBatch("Hopper-v5", num_envs=3, seed=s, threads=1) for s in (0, 9))
    env.reset()
    script = actions(env, 120)
    for action in script[:60]:
        env.step(action)
    other.restore(env.snapshot())
    for action in script[60:]:  # with falls and new draws in between
        torch.testing.assert_close(tuple(other.step(action))[:5], tuple(env.step(action))[:5], rtol=0.0, atol=0.0)


def test_other_environments_step_one_after_the_other() -> None:
    assert isinstance(make_gym_world("Pendulum-v1", num_envs=1, seed=0), GymWorld)
    assert isinstance(make_gym_world("Hopper-v5", num_envs=1, seed=0), GymBatch)
    with pytest.raises(ValueError, match="no batch of 'Pendulum-v1'"):
        GymBatch("Pendulum-v1", num_envs=1, seed=0)
