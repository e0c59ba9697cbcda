"""A recipe: everything that turns a task into a policy, in one frozen value.

A recipe is a file ``policies/recipes/<name>.py`` with a function ``recipe() -> Recipe``.

Knows: names of tasks and algorithms, the number of environments.
Does not know: how tasks are built, how algorithms learn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from robot_rl.learn import aprl, distill, imitation, jump_start, offline_online, pixels, ppo, practice, rlif, rlpd

ALGORITHMS: dict[str, type] = {
    "ppo": ppo.Config,
    "distill": distill.Config,
    "rlif": rlif.Config,
    "imitation": imitation.Config,
    "rlpd": rlpd.Config,
    "iql": offline_online.Config,
    "pixels": pixels.Config,
    "aprl": aprl.Config,
    "practice": practice.Config,
}
"""What ``Recipe.algorithm`` may be, and the settings that it takes."""
WITH_PRIOR = ("rlpd", "iql", "pixels")
"""Algorithms that learn from transitions of others."""
REWARDS = ("task", "sparse")
"""What ``Recipe.reward`` may be, beside the file of a judge."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What others did before: half of every minibatch of RLPD, all that IQL has. More comes with ``--prior``."""

    expert: str = ""
    """A file of ``sim/experts`` that demonstrates; empty is none."""
    demonstrations: int = 0
    """Episodes of the expert."""
    noise: float = 0.0
    """Standard deviation of what is added to the expert's actions."""
    only_solved: bool = True
    """Whether demonstrations that fail are left out."""
    sources: tuple[str, ...] = ()
    """Folders of earlier experiments, whose transitions are replayed: runs with a replay, or stores of episodes."""

    def __post_init__(self) -> None:
        if (self.demonstrations > 0) != bool(self.expert) or self.demonstrations < 0:
            raise ValueError(
                f"prior: expert is {self.expert!r} and demonstrations {self.demonstrations}; an expert gives at least "
                "one, and nobody gives none"
            )
        if self.noise < 0.0:
            raise ValueError(f"prior: noise is {self.noise}; at least 0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that turns a task into a policy."""

    task: str
    """Name of the task in ``sim/tasks``."""
    config: (
        ppo.Config | distill.Config | rlif.Config | imitation.Config | rlpd.Config | offline_online.Config | aprl.Config
        | practice.Config
        | pixels.Config
    )  # fmt: skip
    """Settings of the algorithm."""
    algorithm: str = "ppo"
    """One of ``ALGORITHMS``."""
    num_envs: int = 256
    """N, environments that step together."""
    threads: int = 0
    """Threads of the physics; 0 is one per CPU."""
    physics: str = "mujoco_cpu"
    """Backend of the physics."""
    prior: Prior | None = None
    """rlpd, iql, pixels: transitions of others to learn from."""
    guide: str = ""
    """rlpd: who acts first in every episode, an expert of ``sim/experts`` or a policy; none is the learner itself."""
    jump_start: jump_start.Config = field(default_factory=jump_start.Config)
    """How the guide hands over."""
    recover: str = ""
    """Policy, a file or a released one's name, that gets the robot up after an episode; none puts it back by hand."""
    reward: str = "task"
    """``task``: its own, dense or sparse; ``sparse``: 1 where it calls itself solved; or a judge's ``.onnx`` file."""

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"no algorithm {self.algorithm!r}; the choices are {tuple(ALGORITHMS)}")
        if type(self.config) is not ALGORITHMS[self.algorithm]:
            kind = ALGORITHMS[self.algorithm]
            raise ValueError(f"algorithm {self.algorithm!r} takes a {kind.__module__}.Config, not {self.config!r}")
        if self.num_envs < 1:
            raise ValueError(f"recipe: num_envs is {self.num_envs}; it must be at least 1")
        if self.guide and self.algorithm != "rlpd":
            raise ValueError(f"recipe: {self.guide!r} guides 'rlpd'; {self.algorithm!r} learns without a guide")
        if self.recover and self.algorithm == "practice":
            raise ValueError("recipe: who practises is brought back by its own policies; leave recover empty")
        if self.recover and (self.num_envs != 1 or self.physics != "mujoco_cpu"):
            raise ValueError(
                f"recipe: {self.recover!r} gets up one robot on mujoco_cpu, not {self.num_envs} on {self.physics}"
            )
        if self.reward not in REWARDS and not self.reward.endswith(".onnx"):
            raise ValueError(f"no reward {self.reward!r}; the choices are {REWARDS} and a judge's .onnx file")
        if self.reward != "task" and not self._looks_at_reward:
            raise ValueError(f"recipe: {self.algorithm!r} never looks at a reward {self.reward!r}; leave it at 'task'")
        if self.algorithm == "practice" and self.num_envs != 1:
            raise ValueError(f"recipe: num_envs is {self.num_envs}; 'practice' goes on in one world, 1")
        if self.prior is not None and self.algorithm not in WITH_PRIOR:
            raise ValueError(f"algorithm {self.algorithm!r} learns from no prior data; the choices are {WITH_PRIOR}")

    @property
    def _looks_at_reward(self) -> bool:
        """Whether the world's reward is learnt from, and may be another one."""
        if isinstance(self.config, rlif.Config):
            return self.config.method != "rlif" or self.config.task_reward != 0.0
        return self.algorithm not in ("practice", "distill", "imitation")


def vary(
    recipe: Recipe,
    *,
    seed: int | None = None,
    total_steps: int | None = None,
    max_minutes: float | None = None,
    num_envs: int | None = None,
    exploration: str | None = None,
    memory: str | None = None,
    symmetry: str | None = None,
    reward: str | None = None,
    guide: str | None = None,
) -> Recipe:
    """Return ``recipe`` with the given numbers in place of its own; None keeps them.

    Raises:
        ValueError: The recipe's algorithm has no such setting.
    """
    wanted = {
        "seed": seed, "total_steps": total_steps, "max_minutes": max_minutes, "exploration": exploration,
        "memory": memory, "symmetry": symmetry,
    }  # fmt: skip
    given = {name: value for name, value in wanted.items() if value is not None}
    strange = sorted(set(given) - {f.name for f in dataclasses.fields(recipe.config)})
    if strange:
        raise ValueError(f"algorithm {recipe.algorithm!r} has no setting {strange}; leave it to the recipe")
    config = dataclasses.replace(recipe.config, **given)
    num_envs = recipe.num_envs if num_envs is None else num_envs
    return dataclasses.replace(
        recipe, config=config, num_envs=num_envs, reward=reward or recipe.reward, guide=guide or recipe.guide
    )
