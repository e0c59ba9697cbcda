"""Demonstrations by an expert, through the world and contract that a learner acts in, as transitions to learn from.

Knows: worlds, experts, replay rows. Does not know: learners; scripts (``expert``).

Shapes: N environments · A action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from robot_rl.contract.state import RobotState
from robot_rl.data.pictures import GROUP, PictureReplay, side_by_side
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.sim.backends import make_physics
from robot_rl.sim.expert import load_expert
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

Act = Callable[[RobotState], np.ndarray]
"""Maps the states of N environments to raw actions (N, A)."""


@dataclass(frozen=True, slots=True)
class Demonstrations:
    """What an expert did, and how well."""

    replay: Replay
    """Transitions by ``transition_columns``, whole episodes one after the other, those kept alone."""
    episodes: int
    """Of which the transitions are."""
    tried: int
    """Episodes in all."""
    success: float
    """Share of all episodes that the task calls solved."""
    pictures: PictureReplay | None = None
    """The same transitions with the pictures of all cameras side by side, beside the policy's numbers alone; None where
    the task names no cameras."""


def demonstrate(
    task: Task,
    expert: str | Act,
    *,
    episodes: int,
    seed: int,
    noise: float = 0.0,
    only_solved: bool = True,
    num_envs: int = 4,
    threads: int = 1,
) -> Demonstrations:
    """Let an expert solve ``task`` until ``episodes`` episodes are kept.

    Args:
        task: With a term of success.
        expert: A file of ``sim/experts``, or what acts.
        episodes: How many to keep; at most four times as many are tried.
        seed: Of resets and noise.
        noise: Standard deviation of what is added to every action; the action in the transition has it.
        only_solved: Whether episodes that are not solved are left out.
        num_envs: Copies that run at once.
        threads: Of the physics.

    Raises:
        ValueError: The task has no term of success, or the expert solves less than one episode in four.
    """
    if task.success is None:
        raise ValueError(f"task {task.name!r} has no success term to judge demonstrations by")
    world = World(task, make_physics(task, num_envs=num_envs, threads=threads), seed=seed)
    try:
        act = load_expert(expert, world.contract, world.robot) if isinstance(expert, str) else expert
        return _run(world, task, act, episodes, np.random.default_rng((seed, 1)), noise, only_solved)
    finally:
        world.close()


def _run(
    world: World, task: Task, act: Act, episodes: int, rng: np.random.Generator, noise: float, only_solved: bool
) -> Demonstrations:
    assert task.success is not None, "checked by the caller"
    width = sum(world.obs_sizes.values())
    limit = round(task.episode_s * task.rate_hz)
    replay = Replay(episodes * limit, transition_columns(width, world.num_actions))
    rows: list[list[dict[str, np.ndarray]]] = [[] for _ in range(world.num_envs)]
    obs, kept, tried, solved = world.reset(), 0, 0, 0
    album = _Album(world, obs, episodes * limit) if task.cameras else None
    while kept < episodes:
        action = act(world.state)
        if noise:
            action = action + rng.normal(0.0, noise, action.shape)
        action = np.clip(action, -1.0, 1.0)
        step = world.step(action)
        success = task.success(step.outcome) > 0.5
        columns = {
            "obs": _join(obs), "action": action, "reward": step.reward, "next_obs": _join(step.next_obs),
            "terminated": step.terminated,
        }  # fmt: skip
        if album:
            album.take(step.next_obs)
        for i, episode in enumerate(rows):
            episode.append({name: x[i] for name, x in columns.items()})
            if step.terminated[i] >= 1.0 or step.truncated[i]:
                tried, solved = tried + 1, solved + int(success[i])
                if kept < episodes and (success[i] or not only_solved):
                    replay.extend({name: np.stack([row[name] for row in episode]) for name in columns})
                    if album:
                        album.keep(i, episode)
                    kept += 1
                if album:
                    album.begin(i, step.obs)
                episode.clear()
        if tried >= 4 * episodes and kept < episodes:
            raise ValueError(f"the expert solved {solved} of {tried} episodes of {task.name!r}; {episodes} were asked")
        obs = step.obs
    return Demonstrations(replay, kept, tried, solved / tried, album.replay if album else None)


class _Album:
    """The pictures of the episodes that run, until it is known which are kept."""

    def __init__(self, world: World, obs: dict[str, np.ndarray], capacity: int) -> None:
        """Begin with the first observations."""
        first = side_by_side(obs)
        self._numbers = world.obs_sizes["policy"]
        self.replay = PictureReplay(capacity, self._numbers, world.num_actions, first.shape[1:])
        self._running = [[picture] for picture in first]

    def take(self, next_obs: dict[str, np.ndarray]) -> None:
        """Add the successors of a step."""
        for pictures, picture in zip(self._running, side_by_side(next_obs), strict=True):
            pictures.append(picture)

    def keep(self, i: int, episode: list[dict[str, np.ndarray]]) -> None:
        """Put the finished episode of copy ``i`` into the replay."""
        pictures = self._running[i]
        self.replay.begin(pictures[0][None])
        for row, picture in zip(episode, pictures[1:], strict=True):
            columns = {name: np.asarray(x)[None] for name, x in row.items()}
            numbers = {name: columns[name][:, : self._numbers] for name in ("obs", "next_obs")}
            self.replay.extend(columns | numbers, picture[None])

    def begin(self, i: int, obs: dict[str, np.ndarray]) -> None:
        """Begin an episode of copy ``i``."""
        self._running[i] = [side_by_side(obs)[i]]


def _join(obs: dict[str, np.ndarray]) -> np.ndarray:
    """Return what the critics see, (N, D): the policy's observation first."""
    return np.concatenate(
        [obs["policy"], *(x for name, x in obs.items() if name != "policy" and not name.startswith(GROUP))], -1
    )
