"""What a run of RLPD leaves in its checkpoints, so that the policy comes back from the file alone.

Knows: the tree of a run. Does not know: worlds (``rlpd_loop``), losses (``rlpd``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from robot_rl.learn import checkpoint
from robot_rl.learn.agent import Agent
from robot_rl.learn.rlpd import Config, make_agent
from robot_rl.learn.squashed import Actor


@dataclass(slots=True)
class Trained:
    """What a run has learnt."""

    agent: Agent
    steps: int
    """Environment steps behind it."""

    @property
    def actor(self) -> Actor:
        """The policy."""
        return self.agent.actor


def pack(agent: Agent, cfg: Config, steps: int) -> dict[str, Any]:
    """Return the agent as a tree for ``checkpoint.save``; widths of an actor that began at a policy are its own."""
    actor = agent.actor
    sizes = {"policy": actor.obs_size, "critic": len(agent.obs_mean), "action": actor.num_actions}
    hidden = [layer.out_features for layer in actor.mlp.linears()[:-1]]
    return {
        "algorithm": "rlpd", "config": asdict(cfg), "sizes": sizes, "steps": steps, "agent": agent.snapshot(),
        "layers": {"actor_hidden": hidden, "actor_activation": actor.mlp.activation},
    }  # fmt: skip


def unpack(tree: Mapping[str, Any]) -> tuple[Trained, Config]:
    """Rebuild the agent and the settings that it was trained with.

    Raises:
        ValueError: The checkpoint is of a fine-tuning, which keeps its policy in the inbox, or of before settings were
            kept.
    """
    if "layers" not in tree:
        raise ValueError("a checkpoint of rlpd without its settings: of robot-rl finetune, or of an older version")
    stored = checkpoint.settings(tree, Config)
    cfg = Config(**stored)
    layers, sizes = tree["layers"], tree["sizes"]
    shaped = replace(cfg, actor_hidden=tuple(layers["actor_hidden"]), actor_activation=layers["actor_activation"])
    agent = make_agent(
        shaped, obs_size=sizes["policy"], num_actions=sizes["action"], critic_obs_size=sizes["critic"]
    )  # fmt: skip
    agent.restore(tree["agent"])
    return Trained(agent, tree["steps"]), cfg
