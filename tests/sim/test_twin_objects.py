"""A policy that reads an object's pose drives the twin of its task; the recording says where the object was."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco.batch")

from robot_rl import zoo
from robot_rl.cli.run import Site, make_site
from robot_rl.contract.apply import Observer
from robot_rl.contract.vectors import split
from robot_rl.data.episodes import read_episodes
from robot_rl.data.transition import WORKSPACE, as_state, row_dtype
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.sim.recorded import make_reward
from tests.sim.test_panda_policy import PANDA, export


def drive(site: Site, seconds: float, ask: Request) -> None:
    site.loop.requests.ask(ask)
    for _ in range(round(seconds / site.loop.clock.period_s)):
        site.loop.tick()
        site.loop.clock.wait()


def test_a_lift_on_the_twin_is_recorded_with_its_cube(tmp_path: Path) -> None:
    task = zoo.load("sim", "tasks/panda_lift").task()
    policy = Policy.load(export(tmp_path, "panda_lift"), PANDA)
    site = make_site(policy, PANDA, record=tmp_path / "store", speed=1e6, seed=3)
    loop = site.loop
    loop.driver.connect()
    assert loop.recorder is not None
    loop.recorder.start()
    for seconds, ask in ((0.5, Request.DAMP), (4.0, Request.STAND), (2.0, Request.POLICY)):
        drive(site, seconds, ask)
    site.handlers["lift"]("")
    drive(site, 0.5, Request.DAMP)
    placed = loop.latest.state.object_pos_b
    assert placed is not None
    loop.recorder.close()
    loop.driver.close()

    (episode,) = read_episodes(tmp_path / "store")
    rows = episode.rows[:-1]  # the last is the robot already lifted
    assert len(rows) == 20
    cube = rows["object_pos_b"][:, 0]
    thing = task.objects["cube"]
    assert (np.abs(cube[0] - thing.pos) <= np.array(thing.spread[:3]) + 2e-3).all()
    assert np.linalg.norm(placed[0] - cube[0]) > 1e-3  # whoever lifted the arm put the cube elsewhere
    observe = Observer(policy.contract, PANDA.joints)
    again = np.stack([observe(state).copy() for state in split(as_state(rows))])
    np.testing.assert_allclose(again, rows["obs"], atol=1e-5)

    reward = make_reward(task, policy.contract, PANDA)
    held = rows[:2].copy()
    held["object_pos_b"][:, 0] = held["tool_pos_b"] = (0.5, 0.0, 0.3)
    assert reward(held[:1], held[1:]).tolist() == [1.0]
    assert reward(rows[:-1], rows[1:]).tolist() == [0.0] * 19


def test_a_task_of_other_objects_is_refused(tmp_path: Path) -> None:
    policy = Policy.load(export(tmp_path, "panda_lift"), PANDA)
    with pytest.raises(ValueError, match=r"'panda_reach' has robot 'panda' and objects \[\]; .* wants .*'cube'"):
        make_site(policy, PANDA, task="panda_reach")


def test_only_contracts_with_surroundings_have_columns_for_them() -> None:
    robot = load_robot("panda")
    lift, reach = (zoo.load("sim", f"tasks/{name}").task().contract(robot) for name in ("panda_lift", "panda_reach"))
    assert set(WORKSPACE) <= set(row_dtype(lift, robot).names or ())
    assert [name for name in WORKSPACE if name in (row_dtype(reach, robot).names or ())] == list(WORKSPACE[:2])
    blind = dataclasses.replace(reach, obs=reach.obs[:2])
    names = row_dtype(blind, robot).names or ()
    assert not set(WORKSPACE) & set(names)
    assert as_state(np.zeros(2, row_dtype(blind, robot))).object_pos_b is None
