"""``robot-rl train`` with prior data: RLPD, its replay and its recorded episodes for IQL, and RLPD again from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from robot_rl import zoo
from robot_rl.cli import export, train
from robot_rl.cli.main import main
from robot_rl.cli.prior import gather
from robot_rl.contract.golden import read_bundle
from robot_rl.data.episodes import read_episodes
from robot_rl.learn import checkpoint, rlpd
from robot_rl.learn.offline_online import Config
from robot_rl.learn.recipe import Prior, Recipe
from robot_rl.sim.env import make_env

STEPS = 1_000


def args(recipe: str, out: Path, steps: int, **more: object) -> train.Args:
    return replace(train.Args(recipe, seed=1, total_steps=steps, out=out, progress=False), **more)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of RLPD, resumed once, and a store of episodes of its policy on the twin."""
    out = tmp_path_factory.mktemp("first")
    assert train.run(args("cartpole_swingup_rlpd", out / "run", STEPS // 2)) == 0
    assert train.run(args("cartpole_swingup_rlpd", out / "run", STEPS, resume=True)) == 0
    words = ["--wire", "loopback", "--record", str(out / "store"), "--start", "policy", "--speed", "100"]
    assert main(["run", str(out / "run/policy.onnx"), *words, "--duration-s", "20", "--episode-s", "5"]) == 0
    return out


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe of IQL with few updates."""
    recipe = zoo.load("policies", "recipes/cartpole_swingup_iql").recipe()
    assert isinstance(recipe.config, Config)
    offline = replace(recipe.config.offline, updates=100, log_every=50, save_every=50)
    recipe = replace(recipe, config=replace(recipe.config, offline=offline))
    module = type("Module", (), {"recipe": staticmethod(lambda: recipe)})
    load = zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("swingup_iql") else load(room, name))
    return recipe


def test_a_run_of_rlpd_leaves_a_policy_a_report_and_its_settings(first: Path) -> None:
    out = first / "run"
    bundle, about = read_bundle(out / "policy.onnx"), json.loads((out / "run.json").read_text())
    assert (bundle.provenance["algorithm"], bundle.provenance["steps"]) == ("rlpd", STEPS)
    assert about["prior"] is None
    assert (out / "report.html").is_file()
    assert main(["check", str(out / "policy.onnx")]) == 0
    assert export.run(export.Args(out, out=first / "again.onnx")) == 0
    assert read_bundle(first / "again.onnx").graph_sha256 == bundle.graph_sha256


def test_a_run_is_not_resumed_with_other_settings(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = zoo.load("policies", "recipes/cartpole_swingup_rlpd").recipe()
    other = replace(recipe, config=replace(recipe.config, tau=0.1))
    module, load = type("Module", (), {"recipe": staticmethod(lambda: other)}), zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("_rlpd") else load(room, name))
    with pytest.raises(ValueError, match=r"was trained with tau = 0\.005; the recipe says 0\.1"):
        train.run(args("cartpole_swingup_rlpd", first / "run", 2 * STEPS, resume=True))


def test_an_earlier_run_and_recorded_episodes_are_learnt_from_then_the_world(
    first: Path, short: Recipe, tmp_path: Path
) -> None:
    out, prior = tmp_path / "run", (first / "run", first / "store")
    assert train.run(args("cartpole_swingup_iql", out, 600, prior=prior)) == 0
    about = json.loads((out / "run.json").read_text())
    recorded = sum(len(episode.rows) - 1 for episode in read_episodes(first / "store"))
    assert about["prior"] == {str(first / "run"): STEPS, str(first / "store"): recorded}
    assert recorded > 500
    assert read_bundle(out / "policy.onnx").provenance["steps"] == 600

    assert train.run(args("cartpole_swingup_iql", out, 700, resume=True)) == 0  # without naming the data again
    path = checkpoint.latest(out / "checkpoints")
    assert path is not None and checkpoint.load(path)["steps"] == 700
    assert main(["check", str(out / "policy.onnx")]) == 0


def test_what_is_killed_offline_goes_on_there_and_data_alone_is_enough(
    first: Path, short: Recipe, tmp_path: Path
) -> None:
    out = tmp_path / "two"
    assert train.run(args("cartpole_swingup_iql", out, 600, prior=(first / "run",))) == 0
    assert not any((tmp_path / "one").glob("*"))
    assert train.run(args("cartpole_swingup_iql", tmp_path / "one", 0, prior=(first / "run",))) == 0
    assert read_bundle(tmp_path / "one/policy.onnx").provenance["steps"] == 100  # updates: it took no step
    offline = [checkpoint.latest(folder / "checkpoints") for folder in (out / "offline", tmp_path / "one")]
    trees = [checkpoint.load(path)["student"] for path in offline if path is not None]
    assert np.array_equal(trees[0]["tensors"]["critics"], trees[1]["tensors"]["critics"])

    killed = checkpoint.latest(out / "checkpoints")
    assert killed is not None
    before = checkpoint.load(killed)["agent"]["tensors"]["critics"]
    for path in (*(out / "checkpoints").glob("*"), out / "offline/checkpoints/00000100.npz"):
        path.unlink()
    assert train.run(args("cartpole_swingup_iql", out, 600, resume=True)) == 0
    assert np.array_equal(checkpoint.load(killed)["agent"]["tensors"]["critics"], before)


def test_streams_of_a_run_are_unravelled(first: Path, tmp_path: Path) -> None:
    """Four worlds took turns in the replay; behind one another, nearly every row begins where the last one ended."""
    recipe = zoo.load("policies", "recipes/cartpole_swingup_rlpd").recipe()
    env = make_env(zoo.load("sim", "tasks/cartpole_swingup").task(), num_envs=1, seed=0)
    found = gather(recipe, env, [first / "run"], tmp_path)
    assert found is not None
    (tmp_path / "run.json").write_text(json.dumps({"prior": found.sources}))
    again = gather(recipe, env, [], tmp_path, resume=True)
    env.close()
    assert again is not None and again.sources == found.sources == {str(first / "run"): STEPS}
    assert np.array_equal(found.replay.rows, again.replay.rows)
    columns = found.replay.split(found.replay.rows)
    follows = (columns["next_obs"][:-1] == columns["obs"][1:]).all(-1)
    assert follows.mean() > 0.99


def test_only_a_run_that_goes_on_learns_from_what_it_gathered(first: Path, tmp_path: Path) -> None:
    """What a run left that was killed before its first checkpoint is of that run alone."""
    recipe = zoo.load("policies", "recipes/cartpole_swingup_rlpd").recipe()
    env = make_env(zoo.load("sim", "tasks/cartpole_swingup").task(), num_envs=1, seed=0)
    about, store = tmp_path / "run.json", first / "store"
    assert gather(recipe, env, [first / "run"], tmp_path) is not None
    other = gather(recipe, env, [store], tmp_path)
    assert other is not None and list(other.sources) == [str(store)]
    about.write_text(json.dumps({"prior": other.sources}))
    with pytest.raises(ValueError, match=r"learns from the prior data \['.*store'\], not from .*; leave --prior"):
        gather(recipe, env, [first / "run"], tmp_path, resume=True)
    assert gather(recipe, env, [store], tmp_path, resume=True) is not None
    assert gather(recipe, env, [], tmp_path) is None
    about.write_text(json.dumps({"prior": None}))
    assert gather(recipe, env, [], tmp_path, resume=True) is None
    with pytest.raises(ValueError, match=r"learns from the prior data \[\], not from"):
        gather(recipe, env, [store], tmp_path, resume=True)
    env.close()


def test_what_was_learnt_from_data_alone_goes_online_later(first: Path, short: Recipe, tmp_path: Path) -> None:
    out, one = tmp_path / "two_commands", tmp_path / "one"
    assert train.run(args("cartpole_swingup_iql", out, 0, prior=(first / "run",))) == 0
    assert train.run(args("cartpole_swingup_iql", out, 600, resume=True)) == 0
    assert train.run(args("cartpole_swingup_iql", one, 600, prior=(first / "run",))) == 0
    trees = [checkpoint.load(folder / "checkpoints/00000600.npz") for folder in (out, one)]
    critics = [tree["agent"]["tensors"]["critics"] for tree in trees]
    assert np.array_equal(*critics)
    rows = [(out / where / "metrics.jsonl").read_text().count("\n") for where in (".", "offline")]
    assert rows == [(one / where / "metrics.jsonl").read_text().count("\n") for where in (".", "offline")]
    assert train.run(args("cartpole_swingup_iql", out, 700, resume=True)) == 0


def test_data_that_does_not_fit_is_refused(first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="iql learns from data, and there is none"):
        train.run(args("cartpole_swingup_iql", tmp_path / "a", 0))
    reach = Recipe("panda_reach", rlpd.Config(), "rlpd", num_envs=1)
    module, load = type("Module", (), {"recipe": staticmethod(lambda: reach)}), zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("reach_rlpd") else load(room, name))
    with pytest.raises(ValueError, match=r"has contract .* \(task 'cartpole_swingup'\); the recipe's world .*panda_"):
        train.run(args("panda_reach_rlpd", tmp_path / "b", 64, prior=(first / "run",)))
    with pytest.raises(ValueError, match="'ppo' learns from no prior data; leave --prior away"):
        train.run(args("cartpole_swingup_ppo", tmp_path / "c", 64, prior=(first / "run",)))
    with pytest.raises(ValueError, match="is no folder; expected a run or a store"):
        train.run(args("cartpole_swingup_iql", tmp_path / "d", 0, prior=(tmp_path / "nowhere",)))


def test_what_a_prior_cannot_be() -> None:
    with pytest.raises(ValueError, match="expert is 'panda_lift' and demonstrations 0"):
        Prior(expert="panda_lift")
    with pytest.raises(ValueError, match=r"'ppo' learns from no prior data; .* \('rlpd', 'iql', 'pixels'\)"):
        replace(zoo.load("policies", "recipes/cartpole_swingup_ppo").recipe(), prior=Prior())
    with pytest.raises(ValueError, match="critics is 2 offline and 3 online; the critics are handed over"):
        Config(offline=replace(Config().offline, critics=2), online=rlpd.Config(critics=3), total_steps=1)


def test_demonstrations_are_made_and_learnt_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = rlpd.Config(
        critics=2, hidden=(16, 16), actor_hidden=(16, 16), utd=1, batch=16, total_steps=60, start_steps=40,
        log_every=20,
    )  # fmt: skip
    recipe = Recipe("panda_lift", config, "rlpd", num_envs=2, prior=Prior(expert="panda_lift", demonstrations=2))
    module, load = type("Module", (), {"recipe": staticmethod(lambda: recipe)}), zoo.load
    monkeypatch.setattr(zoo, "load", lambda room, name: module if name.endswith("lift_rlpd") else load(room, name))
    assert train.run(args("panda_lift_rlpd", tmp_path, 60)) == 0
    about = json.loads((tmp_path / "run.json").read_text())
    assert list(about["prior"]) == ["2 demonstrations of panda_lift"]
    assert main(["check", str(tmp_path / "policy.onnx")]) == 0
