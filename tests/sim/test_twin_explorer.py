"""Exploration in the twin: a robot with physics explores, and its log repeats every action to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from robot_rl.cli.run import make_site
from robot_rl.data.episodes import read_episodes
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.loop import LoopConfig
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.repeat import repeat_actions

POLICY = Path(__file__).parents[1] / "golden" / "policies" / "go2_gsde.onnx"


def record(folder: Path, seed: int) -> None:
    robot = load_robot("go2")
    config = LoopConfig(gsde=True, explore_seed=seed)
    site = make_site(Policy.load(POLICY, robot), robot, record=folder, config=config, speed=1000.0)
    loop = site.loop
    loop.driver.connect()
    assert loop.recorder is not None
    loop.recorder.start()
    for request, ticks in ((Request.DAMP, 5), (Request.STAND, 125), (Request.POLICY, 50)):
        loop.requests.ask(request)
        for _ in range(ticks):
            loop.tick()
            loop.clock.wait()
    loop.damp()
    loop.driver.close()
    loop.recorder.close()


def test_the_log_of_the_twin_repeats_every_action(tmp_path: Path) -> None:
    for seed in (7, 8):
        record(tmp_path / str(seed), seed)
    policy = Policy.load(POLICY, load_robot("go2"))
    found = [next(iter(read_episodes(tmp_path / str(seed)))) for seed in (7, 8)]
    for seed, episode in zip((7, 8), found, strict=True):
        assert len(episode.rows) == 50
        assert episode.events[0]["exploration"] == {"seed": seed, "every": 8}
        assert np.array_equal(repeat_actions(policy, episode.rows, episode.events), episode.rows["action"])
    assert np.abs(found[0].rows["action"] - found[1].rows["action"]).max() > 0.01
