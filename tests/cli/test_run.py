"""`robot-rl run --explore`: a seeded run that its record repeats, and what is refused before anything opens."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.cli.main import main
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.transition import Mode
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.repeat import repeat_actions

POLICIES = Path(__file__).parents[1] / "golden" / "policies"
GSDE, TINY = str(POLICIES / "go2_gsde.onnx"), str(POLICIES / "go2_tiny.onnx")
QUIET = ("--wire", "loopback", "--driver", "mirror", "--speed", "50")


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The verb takes the signals of its process; give them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_run_that_explores_says_so_and_its_record_repeats_it(tmp_path: Path, capsys) -> None:
    words = ("--start", "policy", "--duration-s", "6", "--record", str(tmp_path / "store"))
    assert main(["run", GSDE, *QUIET, *words, "--explore", "--explore-seed", "7", "--explore-every", "5"]) == 0
    assert "exploring with seed 7, drawing every 5 ticks" in capsys.readouterr().out
    (episode,) = read_episodes(tmp_path / "store")
    assert episode.events[0]["exploration"] == {"seed": 7, "every": 5}
    policy = Policy.load(GSDE, load_robot("go2"))
    assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["action"])
    mean = np.array([policy.infer(obs) for obs in episode.rows["obs"]])
    assert np.abs(episode.rows["action"] - mean).max() > 0.01
    assert main(["check", GSDE, "--record", str(tmp_path / "store"), "--json"]) == 0
    last = json.loads(capsys.readouterr().out)["findings"][-1]
    rows = len(episode.rows)
    assert (last["name"], last["severity"]) == ("record", "ok")
    assert last["policy_value"] == f"{rows} actions, {rows} of them exploring"
    assert last["message"] == f"{rows} of {rows} repeated to the bit, largest difference 0.0e+00"


def test_a_record_of_other_actions_or_of_another_policy_is_found(tmp_path: Path, capsys) -> None:
    robot = load_robot("go2")
    policy = Policy.load(GSDE, robot)
    writer = EpisodeWriter(tmp_path / "store", policy.contract, robot)
    rows = np.zeros(5, writer.dtype)
    rows["tick"], rows["mode"], rows["policy"] = np.arange(5), Mode.POLICY, policy.fingerprint
    rows["policy_action"] = policy.infer(np.zeros(45, np.float32))
    rows["policy_action"][3, 2] += 0.1
    writer.start_episode({"tick": 0})
    writer.append(rows)
    writer.close()
    found = {}
    for name in (GSDE, TINY):
        code = main(["check", name, "--record", str(writer.folder), "--json"])
        found[name] = code, json.loads(capsys.readouterr().out)["findings"][-1]
    assert found[GSDE][0] == 1 and found[GSDE][1]["severity"] == "error"
    assert found[GSDE][1]["message"] == "4 of 5 repeated to the bit, largest difference 1.0e-01"
    assert found[TINY][0] == 0 and found[TINY][1]["message"] == "the record holds no tick of this policy"
    assert main(["check", GSDE, "--record", str(tmp_path / "none")]) == 2
    assert "is no folder; --record wants an episode store" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((TINY, "--explore"), "go2_tiny.onnx cannot explore: it was trained without gSDE"),
        ((GSDE, "--explore", "--explore-every", "0"), "exploration interval is 0; it must be at least 1 tick"),
        ((GSDE, "--explore", "--explore-seed", "-1"), "exploration seed is -1; it must lie in [0, 2^64)"),
        ((GSDE, "--explore-seed", "7"), "--explore-seed and --explore-every say how to explore; add --explore"),
    ],
)
def test_what_cannot_explore_is_refused_before_anything_opens(tmp_path: Path, capsys, words, reason: str) -> None:
    assert main(["run", *words, *QUIET, "--record", str(tmp_path / "store")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "store").exists()
