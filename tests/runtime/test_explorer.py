"""gSDE in the running loop: off by default, seeded, redrawn on time, repeated from the log to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from robot_rl.contract.exploration import draw
from robot_rl.data.blocks import compact
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.follow import Episode
from robot_rl.runtime.explorer import Explorer
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import Recorder
from robot_rl.runtime.repeat import repeat_actions
from tests.runtime.conftest import Rig

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
ONE, TWO, TINY = (POLICIES / f"{name}.onnx" for name in ("go2_gsde", "go2_gsde2", "go2_tiny"))
OBS = np.random.default_rng(1).normal(size=(20, 45)).astype(np.float32)


@pytest.fixture
def make(go2, tmp_path):
    """Return ``make(path, **LoopConfig) -> (driving rig, its recorder)``."""

    def go(path: Path = ONE, **config):
        contract = Policy.load(path, go2).contract
        recorder = Recorder(EpisodeWriter(tmp_path / "store", contract, go2), contract, go2)
        recorder.start()
        return Rig(go2, path, recorder, **config).drive(), recorder

    return go


def episodes(recorder: Recorder, folder: Path) -> list[Episode]:
    recorder.close()
    return list(read_episodes(folder / "store"))


def test_infer_is_the_mean_and_explores_only_while_it_is_given_a_matrix(go2):
    policy = Policy.load(ONE, go2)
    session = ort.InferenceSession(str(ONE), providers=["CPUExecutionProvider"])
    xi = draw(7, 0, (16, 12))
    for obs in OBS:
        mean = session.run(None, {"obs": obs[None]})[0][0]
        explored = session.run(None, {"obs": obs[None], "exploration": xi})[0][0]
        assert np.array_equal(policy.infer(obs), mean)
        assert np.array_equal(policy.infer(obs, xi), explored)
        assert np.array_equal(policy.infer(obs), mean)
        assert np.abs(explored - mean).max() > 0.01


def test_the_matrix_changes_every_interval_and_nowhere_else(go2):
    policy = Policy.load(ONE, go2)
    explorer = Explorer(policy, seed=7, every=4)
    seen = [explorer(policy, tick) for tick in range(100, 113)]
    for tick, xi in zip(range(100, 113), seen, strict=True):
        assert np.array_equal(xi, draw(7, tick // 4, (16, 12)))
    assert len({xi.tobytes() for xi in seen}) == 4
    assert explorer.about == {"exploration": {"seed": 7, "every": 4}}


def test_by_default_the_interval_is_that_of_training(go2):
    assert Explorer(Policy.load(ONE, go2), seed=0).every == 8


@pytest.mark.parametrize(
    ("path", "config", "reason"),
    [
        (TINY, {}, r"go2_tiny.onnx cannot explore: it was trained without gSDE .* train RECIPE --exploration gsde"),
        (ONE, {"gsde_every": 0}, "exploration interval is 0; it must be at least 1 tick"),
        (ONE, {"explore_seed": -1}, r"exploration seed is -1; it must lie in \[0, 2\^64\)"),
    ],
)
def test_what_cannot_explore_is_refused_before_the_loop_begins(go2, path, config, reason):
    with pytest.raises(ValueError, match=reason):
        Rig(go2, path, gsde=True, **config)


def test_the_loop_does_not_explore_unless_asked(make, go2, tmp_path):
    rig, recorder = make()
    rig.tick(20)
    (episode,) = episodes(recorder, tmp_path)
    policy = Policy.load(ONE, go2)
    assert "exploration" not in episode.events[0]
    assert np.array_equal(episode.rows["action"], [policy.infer(obs) for obs in episode.rows["obs"]])
    assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["policy_action"])


@pytest.mark.parametrize("every", [1, 8])
def test_every_action_is_repeated_from_the_log_bit_for_bit(make, go2, tmp_path, every):
    rig, recorder = make(gsde=True, explore_seed=7, gsde_every=every, episode_s=0.5)
    rig.tick(60)
    found = episodes(recorder, tmp_path)
    assert len(found) == 3
    policy = Policy.load(ONE, go2)
    for episode in found:
        about = episode.events[0]
        assert about["exploration"] == {"seed": 7, "every": every}
        assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["action"])
        mean = np.array([policy.infer(obs) for obs in episode.rows["obs"]])
        assert (np.abs(episode.rows["action"] - mean).max(-1) > 1e-3).all()
        other = {**about, "exploration": {"seed": 8, "every": every}}
        assert not np.array_equal(repeat_actions(policy, episode.rows, [other]), episode.rows["action"])


def test_the_log_still_says_it_after_compaction(make, tmp_path):
    pytest.importorskip("zarr")
    rig, recorder = make(gsde=True, explore_seed=7)
    rig.tick(20)
    recorder.close()
    compact(tmp_path / "store")
    (episode,) = read_episodes(tmp_path / "store")
    assert episode.events[0]["exploration"] == {"seed": 7, "every": 8}


def test_what_explores_passes_the_shield_like_everything_else(make, go2):
    rig, recorder = make(gsde=True, explore_seed=7, gsde_every=1)
    rig.tick(60)
    recorder.close()
    sent = rig.sent()
    assert (sent >= np.array(go2.pos_low)).all() and (sent <= np.array(go2.pos_high)).all()
    assert np.abs(np.diff(sent[-60:], axis=0)).max() > 1e-3  # it moves


def test_a_swapped_policy_goes_on_with_the_seed_and_its_own_deviations(make, go2, tmp_path):
    rig, recorder = make(gsde=True, explore_seed=7)
    rig.requests.offer(TWO)
    rig.until("swap_kept")
    rig.tick(20)
    (episode,) = episodes(recorder, tmp_path)
    for path in (ONE, TWO):
        policy = Policy.load(path, go2)
        rows = episode.rows[episode.rows["policy"] == policy.fingerprint]
        assert len(rows) > 20
        assert np.array_equal(repeat_actions(policy, rows, episode.events), rows["action"])
    with pytest.raises(ValueError, match=r"rows of the policies \[\d+\] are not of .*go2_gsde2.onnx"):
        repeat_actions(policy, episode.rows, episode.events)


def test_while_it_explores_a_policy_that_cannot_is_not_swapped_in(make):
    rig, recorder = make(gsde=True, explore_seed=7)
    rig.requests.offer(TINY)
    refused = rig.until("swap_refused")
    recorder.close()
    assert refused["stage"] == "load" and "cannot explore" in refused["reason"]
