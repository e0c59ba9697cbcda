"""The classifier of success: its numbers by hand, honest probabilities, no episode torn, a file that can be trusted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.contract.judge import KEY_JUDGE, Judge
from robot_rl.contract.model_file import read_model_file, with_metadata
from robot_rl.data.labels import Labelled, join, load_labels, save_labels
from robot_rl.learn import success
from robot_rl.learn.env import Step
from robot_rl.learn.judged import Judged
from robot_rl.learn.success_file import export_judge
from tests.learn.goal_world import GoalWorld, straight

CFG = success.Config(hidden=64, updates=400, batch=64, learning_rate=5e-3)


def frames(episodes: int = 40, *, flip: float = 0.0, seed: int = 0) -> Labelled:
    """Walks towards the origin in the plane: within 0.3 of it is success; a share ``flip`` of labels is wrong."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(-2.0, 2.0, (episodes, 1, 2))
    share = rng.uniform(0.0, 0.3, (episodes, 1, 1)) * (np.arange(episodes) % 4 == 0)[:, None, None]
    way = start * (1.0 - (1.0 - share) * np.linspace(0.0, 1.0, 12)[:, None])
    inputs = way.reshape(-1, 2).astype(np.float32)
    label = np.linalg.norm(inputs, axis=1) < 0.3
    label ^= rng.random(len(label)) < flip
    return Labelled(inputs, label, np.repeat(np.arange(episodes), 12), "policy", "walk", "0" * 64)


@pytest.fixture(scope="module")
def found() -> success.Classifier:
    return success.train(frames(), CFG)


def test_it_tells_success_on_episodes_that_it_never_saw(found: success.Classifier) -> None:
    fresh = frames(seed=9)
    says = found(fresh.inputs) >= found.threshold
    precision, recall = success.precision_recall(says, fresh.success)
    assert precision > 0.9
    assert recall > 0.8
    assert found.report.precision > 0.85
    assert found.report.calibration_error < 0.08
    assert found.report.held_out == 8 * 12


def test_no_episode_is_torn_and_every_part_has_both_kinds() -> None:
    data = frames()
    parts = success.split(data, np.random.default_rng(0))
    seen = [set(part.episode.tolist()) for part in parts]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(len(part.success) for part in parts) == len(data.success)
    assert [len(s) for s in seen] == [24, 8, 8]
    few = data.pick(data.episode < 3)
    with pytest.raises(ValueError, match=r"There are 3 episodes, 3 with a success: label more"):
        success.split(replace(few, success=np.ones(36, bool)), np.random.default_rng(0))


def test_precision_recall_threshold_and_calibration_by_hand() -> None:
    wins = np.array([True, True, True, False, False])
    chance = np.array([0.9, 0.8, 0.4, 0.6, 0.1])
    assert success.precision_recall(chance >= 0.5, wins) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert success.precision_recall(chance >= 0.95, wins) == (1.0, 0.0)
    assert success.choose_threshold(chance, wins, 0.97) == pytest.approx(0.7)
    assert success.choose_threshold(chance, wins, 0.75) == pytest.approx(0.25)
    assert success.choose_threshold(np.array([0.2, 0.9]), np.array([True, False]), 0.9) == pytest.approx(0.55)
    # two bins of fifteen: (0.9 - 1) and 0.8 - 1 in theirs, 0.4 - 1, 0.6, 0.1
    gaps = (0.1, 0.2, 0.6, 0.6, 0.1)
    assert success.calibration_error(chance, wins) == pytest.approx(sum(gaps) / 5)
    assert success.calibration_error(np.array([0.5, 0.5]), np.array([True, False])) == 0.0


def test_the_temperature_brings_overconfident_logits_back() -> None:
    """Labels drawn with log-odds z; a classifier that says 3 z is too sure by a factor of 3."""
    rng = np.random.default_rng(0)
    z = rng.normal(0.0, 2.0, 20_000)
    drawn = rng.random(20_000) < 1.0 / (1.0 + np.exp(-z))
    assert success.fit_temperature(3.0 * z, drawn) == pytest.approx(3.0, rel=0.05)
    assert success.fit_temperature(0.25 * z, drawn) == pytest.approx(0.25, rel=0.05)
    assert success.fit_temperature(3.0 * (z - 1.0), drawn, 1.0) == pytest.approx(3.0, rel=0.05)
    before, after = (success.calibration_error(1.0 / (1.0 + np.exp(-3.0 * z / t)), drawn) for t in (1.0, 3.0))
    assert after < 0.02 < before


def test_separated_data_leaves_the_temperature_finite() -> None:
    raw, wins = np.array([5.0, 4.0, -3.0, -6.0]), np.array([True, True, False, False])
    assert math.exp(-5.0) < success.fit_temperature(raw, wins) < math.exp(5.0)


def test_noisy_labels_give_honest_probabilities() -> None:
    noisy = success.train(frames(120, flip=0.1), CFG)
    assert noisy.report.calibration_error < 0.1
    assert 0.7 < np.median(noisy(frames(seed=5).inputs)[frames(seed=5).success]) < 0.97


def test_a_training_repeats_itself_and_leaves_the_global_source_alone(found: success.Classifier) -> None:
    before = torch.get_rng_state()
    again = success.train(frames(), CFG)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(again(frames().inputs), found(frames().inputs))


def test_the_file_answers_as_torch_does_and_refuses_what_it_cannot_see(
    found: success.Classifier, tmp_path: Path
) -> None:
    data, path = frames(), tmp_path / "judge.onnx"
    judge = export_judge(found, data, path)
    np.testing.assert_allclose(judge(data.inputs), found(data.inputs), atol=1e-5)
    assert np.array_equal(judge.success(data.inputs), judge(data.inputs) >= found.threshold)
    spec = Judge(path).spec
    assert (spec.source, spec.shape, spec.contract, spec.held_out) == ("policy", (2,), "0" * 64, 96)
    assert (spec.threshold, spec.temperature) == (found.threshold, found.temperature)
    with pytest.raises(ValueError, match=r"looks at 'policy', float32 \(2,\); it was shown float32 \(3,\)"):
        judge(np.zeros((1, 3), np.float32))


def test_a_damaged_judge_is_refused(found: success.Classifier, tmp_path: Path) -> None:
    path = tmp_path / "judge.onnx"
    export_judge(found, frames(), path)
    whole, metadata = path.read_bytes(), read_model_file(path).metadata
    path.write_bytes(with_metadata(whole, {name: x for name, x in metadata.items() if name != KEY_JUDGE}))
    with pytest.raises(ValueError, match=r"is no judge of success: it lacks the metadata \['robot_rl.judge'\]"):
        Judge(path)
    other = export_judge(success.train(frames(), replace(CFG, seed=1)), frames(), tmp_path / "other.onnx")
    swapped = read_model_file(other.path).metadata | {KEY_JUDGE: metadata[KEY_JUDGE]}
    swapped["robot_rl.judge.examples"] = metadata["robot_rl.judge.examples"]
    path.write_bytes(with_metadata(other.path.read_bytes(), swapped))
    with pytest.raises(ValueError, match="away from what it did where it was made"):
        Judge(path)


def test_labels_come_back_from_their_file_and_join(tmp_path: Path) -> None:
    data = frames(4)
    save_labels(data, tmp_path / "a.npz")
    back = load_labels(tmp_path / "a.npz")
    for name in ("inputs", "success", "episode"):
        assert np.array_equal(getattr(back, name), getattr(data, name))
    assert (back.source, back.task, back.contract) == ("policy", "walk", "0" * 64)
    both = join([data, back])
    assert both.episode.max() == 7 and len(both.success) == 96
    with pytest.raises(ValueError, match="do not go with those of"):
        join([data, replace(data, contract="1" * 64)])
    (tmp_path / "torn.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match="holds no labelled frames"):
        load_labels(tmp_path / "torn.npz")


def test_a_judged_world_pays_what_the_judge_says_and_stays_what_it_was() -> None:
    world = Judged(GoalWorld(3, seed=1), lambda seen: np.linalg.norm(seen, axis=-1) < 0.5, "policy")
    plain, obs = GoalWorld(3, seed=1), world.reset()
    assert torch.equal(obs["policy"], plain.reset()["policy"])
    for _ in range(40):
        step, same = world.step(straight(obs)), plain.step(straight(obs))
        assert isinstance(step, Step)
        near = step.next_obs["policy"].norm(dim=-1) < 0.5
        assert torch.equal(step.reward, near.float())
        assert torch.equal(step.terminated, same.terminated)
        assert step.log["judge/task_reward"] == pytest.approx(float(same.reward.mean()))
        obs = step.obs
    kept = world.snapshot()
    first = world.step(straight(obs)).next_obs["policy"]
    world.restore(kept)
    assert torch.equal(world.step(straight(obs)).next_obs["policy"], first)
    with pytest.raises(ValueError, match=r"the judge looks at 'pixels/front'; the world shows \['policy'\]"):
        Judged(GoalWorld(1), lambda seen: seen > 0, "pixels/front").reset()
