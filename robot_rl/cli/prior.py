"""Prior data of a run: demonstrations by a script, and the transitions of earlier experiments, as one replay.

What was gathered is kept in the run's folder, so that a resumed run learns from the same and gathers nothing twice.
Earlier experiments are replayed as they were (Tirumala et al. 2023, arXiv 2311.15951, replay across experiments).

Knows: experts, folders of runs, stores of episodes, which of them fit a world. Does not know: learners.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from robot_rl.cli.learning import RUN_FILE, find_checkpoint, read_about, same
from robot_rl.data.replay import Replay, transition_columns

if TYPE_CHECKING:
    from robot_rl.data.pictures import PictureReplay
    from robot_rl.learn.recipe import Prior, Recipe
    from robot_rl.sim.env import Env

PRIOR_FOLDER = "prior"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Prior data and where it came from."""

    replay: Replay
    sources: dict[str, int]
    """Transitions by source."""
    pictures: PictureReplay | None = None
    """The same with pictures, for what learns from them."""


def gather(recipe: Recipe, env: Env, more: Sequence[Path], out: Path, *, resume: bool = False) -> Gathered | None:
    """Return what the recipe names and ``more``; a run that is resumed goes on with what it has gathered.

    Args:
        recipe: What is learnt.
        env: The world; what is gathered has its observations.
        more: Runs with a replay, or stores of episodes.
        out: Folder of the run.
        resume: Whether that run goes on; else what its folder holds is of another one, and is not looked at.

    Returns:
        None where nothing is named.

    Raises:
        ValueError: The algorithm takes no prior data, IQL gets none, a source has none or does not fit, or the run has
            learnt from others so far.
    """
    from robot_rl.learn.recipe import WITH_PRIOR, Prior

    if recipe.algorithm not in WITH_PRIOR:
        if more:
            raise ValueError(f"algorithm {recipe.algorithm!r} learns from no prior data; leave --prior away")
        return None
    if recipe.algorithm == "pixels":
        return _seen(recipe, env, more)
    prior, folder = recipe.prior or Prior(), out / PRIOR_FOLDER
    sources = dict.fromkeys([*map(Path, prior.sources), *more])
    shown = f"{prior.demonstrations} demonstrations of {prior.expert}" if prior.expert else ""
    if resume and (kept := _kept(out, [*filter(None, [shown]), *map(str, sources)], named=bool(more))):
        return kept
    parts = {shown: _demonstrated(prior, recipe, env)} if shown else {}
    for source in sources:
        of_run = (source / RUN_FILE).is_file()
        parts[str(source)] = _of_run(source, env, recipe.reward) if of_run else _of_store(source, env)
    if not parts:
        if recipe.algorithm == "iql":
            raise ValueError("iql learns from data, and there is none: name a run or a store of episodes with --prior")
        return None
    return _keep(parts, env, folder)


def _keep(parts: Mapping[str, Mapping[str, np.ndarray]], env: Env, folder: Path) -> Gathered:
    counts = {name: len(columns["reward"]) for name, columns in parts.items()}
    replay = Replay(sum(counts.values()), _columns(env))
    for columns in parts.values():
        replay.extend(columns)
    replay.save(folder)
    return Gathered(replay, counts)


def _kept(out: Path, names: Sequence[str], *, named: bool) -> Gathered | None:
    """Return what the run in ``out`` has gathered; None where that is gone, or was nothing.

    Raises:
        ValueError: ``names`` of sources, some on the command line where ``named``, are not those of the run.
    """
    folder, sources = out / PRIOR_FOLDER, read_about(out).get("prior") or {}
    here = (folder / "replay.json").is_file()
    if (named or not (here and sources)) and set(names) != set(sources):
        cure = "leave --prior away" if here or not sources else "name them with --prior"
        raise ValueError(f"{out} learns from the prior data {list(sources)}, not from {list(names)}; {cure}")
    if not sources or not here:
        return None
    about = json.loads((folder / "replay.json").read_text(encoding="utf-8"))
    replay = Replay(about["capacity"], about["columns"])
    replay.load(folder)
    return Gathered(replay, sources)


def _columns(env: Env) -> dict[str, int]:
    return transition_columns(sum(env.obs_sizes.values()), env.num_actions)


def _demonstrated(prior: Prior, recipe: Recipe, env: Env) -> dict[str, np.ndarray]:
    from robot_rl.sim.demonstrations import demonstrate

    shown = demonstrate(
        env.task, prior.expert, episodes=prior.demonstrations, seed=recipe.config.seed, noise=prior.noise,
        only_solved=prior.only_solved, threads=max(1, recipe.threads),
    )  # fmt: skip
    return shown.replay.split(shown.replay.rows[: len(shown.replay)])


def _seen(recipe: Recipe, env: Env, more: Sequence[Path]) -> Gathered | None:
    """Return demonstrations with their pictures; they are acted out anew in every life of a run, and are the same."""
    from robot_rl.sim.demonstrations import demonstrate

    prior, others = recipe.prior, [*(recipe.prior.sources if recipe.prior else ()), *map(str, more)]
    if others:
        raise ValueError(f"'pixels' learns from demonstrations of an expert alone; {others} keep no pictures")
    if prior is None or not prior.expert:
        return None
    shown = demonstrate(
        env.task, prior.expert, episodes=prior.demonstrations, seed=recipe.config.seed, noise=prior.noise,
        only_solved=prior.only_solved, threads=max(1, recipe.threads),
    )  # fmt: skip
    if shown.pictures is None:
        raise ValueError(f"'pixels' learns from pictures, and task {env.task.name!r} names no cameras")
    name = f"{prior.demonstrations} demonstrations of {prior.expert}"
    return Gathered(shown.replay, {name: len(shown.replay)}, shown.pictures)


def _of_run(folder: Path, env: Env, reward: str) -> dict[str, np.ndarray]:
    """Return all transitions that an earlier run still remembered, each environment's one after the other.

    Raises:
        ValueError: It keeps none, in another contract, or with another reward than ``reward``; a judge pays them anew.
    """
    from robot_rl.learn import checkpoint

    about, path = read_about(folder), find_checkpoint(folder)[1]
    if about["contract"] != env.contract.fingerprint:
        raise ValueError(
            f"prior run {folder} has contract {about['contract'][:12]}… (task {about['task']!r}); the recipe's world "
            f"has {env.contract.fingerprint[:12]}… (task {env.task.name!r})"
        )
    paid = about.get("reward", "task")
    if not reward.endswith(".onnx") and not same(paid, reward):
        raise ValueError(f"prior run {folder} was paid by the reward {paid!r}; the recipe's is {reward!r}")
    stored: dict[str, Any] | None = checkpoint.load(path).get("replay")
    if stored is None:
        raise ValueError(f"prior run {folder} keeps no replay: {about['algorithm']!r} learns from what it forgets")
    if dict(stored["columns"]) != _columns(env):
        raise ValueError(f"prior run {folder} has the columns {stored['columns']}; the recipe's are {_columns(env)}")
    replay = Replay(stored["capacity"], stored["columns"])
    replay.load_state_dict({**stored, "rows": stored["rows"].numpy()})
    return replay.split(_in_turn(replay, about["num_envs"]))


def _in_turn(replay: Replay, streams: int) -> np.ndarray:
    """Return the rows, oldest first, stream after stream, so that one's next row is the next row, (n, W)."""
    first = replay.total - len(replay)
    rows = np.roll(replay.rows[: len(replay)], -(first % replay.capacity), axis=0)
    rows = rows[-first % streams :]  # begin with the first stream
    rows = rows[: len(rows) // streams * streams]
    return rows.reshape(-1, streams, rows.shape[-1]).swapaxes(0, 1).reshape(len(rows), -1)


def _of_store(folder: Path, env: Env) -> dict[str, np.ndarray]:
    """Return all transitions that robots recorded in a store, with the task's reward."""
    from robot_rl.data.feeder import Feeder
    from robot_rl.sim.recorded import make_features, make_reward

    task, contract, columns = env.task, env.contract, _columns(env)
    if not folder.is_dir():
        raise ValueError(f"prior {folder} is no folder; expected a run or a store of episodes")
    missing = [name for name, term in task.rewards.items() if not term.recorded]
    if missing:
        _log.warning("prior store %s: rewards lack the terms %s, which no robot records", folder, missing)
    features = make_features(task, contract, env.robot, tuple(task.privileged)) if task.privileged else None

    def seen_by_critics(rows: np.ndarray) -> np.ndarray:
        """The group ``critic``: the policy's observation once more, as measured, then the privileged terms."""
        assert features is not None, "only asked with privileged terms"
        return np.concatenate((rows["obs"], features(rows)), -1)

    replay = Replay(_rows_in(folder, env), columns)
    feeder = Feeder(
        folder, contract, replay, make_reward(task, contract, env.robot),
        features=None if features is None else seen_by_critics,
    )  # fmt: skip
    try:
        feeder.poll()
    finally:
        feeder.close()
    if not len(replay):
        raise ValueError(f"prior store {folder} holds no transitions of contract {contract.fingerprint[:12]}…")
    return replay.split(replay.rows[: len(replay)])


def _rows_in(folder: Path, env: Env) -> int:
    from robot_rl.data.follow import EpisodeReader, Rows

    reader = EpisodeReader.follow(folder, contract=env.contract)
    count = sum(len(item.rows) for item in reader.poll() if isinstance(item, Rows))
    reader.close()
    return max(1, count)
