"""Who acts first in every episode of a jump start: an expert of ``sim/experts``, or a policy.

Knows: experts, files of policies, one simulated world. Does not know: when they act (``learn.jump_start``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from robot_rl import zoo

if TYPE_CHECKING:
    from torch import Tensor

    from robot_rl.learn.jump_start import Guide
    from robot_rl.sim.env import Env


def make_guide(name: str, env: Env) -> Guide:
    """Return who maps observations of ``env`` to raw actions.

    Args:
        name: An expert of ``sim/experts``, the name of a released policy, or a policy's file.
        env: The world that it acts in.

    Raises:
        ValueError: Nobody has that name; a policy is refused, of another contract, or has a memory.
    """
    import torch

    if name in zoo.names("sim", "experts"):
        from robot_rl.sim.expert import load_expert

        expert = load_expert(name, env.contract, env.robot)
        return lambda obs: torch.from_numpy(expert(env.world.state))
    from robot_rl.runtime.policy import Policy

    try:
        path = zoo.find_policy(name)
    except ValueError as error:
        raise ValueError(f"no guide {name!r}: {error}; the experts are {zoo.names('sim', 'experts')}") from error
    policy = Policy.load(path, env.robot)
    if policy.contract.fingerprint != env.contract.fingerprint:
        raise ValueError(
            f"guide {name} has contract {policy.contract.fingerprint[:12]}… (task {policy.contract.task!r}); the world "
            f"has {env.contract.fingerprint[:12]}… (task {env.task.name!r})"
        )
    if policy.memory is not None:
        raise ValueError(f"guide {name} has a memory, and cannot hand over in the middle of an episode")

    def act(obs: Mapping[str, Tensor]) -> Tensor:
        pictures = [term.group for term in policy.contract.images]
        shown = ({group: obs[group][i : i + 1].cpu().numpy() for group in pictures} for i in range(env.num_envs))
        rows = zip(obs["policy"].cpu().numpy(), shown, strict=True)
        return torch.from_numpy(np.stack([policy.infer(row, pictures=pictures) for row, pictures in rows]))

    return act
