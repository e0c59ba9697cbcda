"""The control loop on the twin: what a robot does when its motors go off, damp, stand up and fall."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data.transition import Mode
from robot_rl.hardware.mirror import Failure
from robot_rl.hardware.robot import load_robot
from robot_rl.runtime.clock import SimClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.shield import Reason
from robot_rl.sim.twin import Twin

POLICY = Path(__file__).parents[1] / "golden" / "policies" / "go2_tiny.onnx"


class Site:
    """A twin, its loop and its clock."""

    def __init__(self) -> None:
        robot = load_robot("go2")
        self.clock = SimClock(50.0)
        self.twin = Twin(robot, clock=self.clock)
        self.twin.connect()
        self.loop = ControlLoop(self.twin, Policy.load(POLICY, robot), self.clock)

    def run(self, seconds: float, ask: Request | None = None) -> Mode:
        if ask is not None:
            self.loop.requests.ask(ask)
        for _ in range(round(seconds * 50)):
            self.loop.tick()
            self.clock.wait()
        return self.loop.situation.mode

    @property
    def height(self) -> float:
        base = self.loop.latest.state.base_pos_w
        assert base is not None
        return float(base[2])


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.twin.close()


def test_it_collapses_when_off_stands_up_from_the_floor_and_is_driven(site: Site) -> None:
    assert site.run(1.0) is Mode.OFF and site.height < 0.1
    assert site.run(0.2, Request.DAMP) is Mode.DAMP
    assert site.run(2.5, Request.STAND) is Mode.STAND
    assert site.height > 0.18
    assert site.run(0.5, Request.POLICY) is Mode.POLICY
    assert not site.loop.latest.reasons & int(Reason.STATE_STALE | Reason.STATE_INVALID)


def test_a_push_onto_its_side_damps_it_and_a_lift_lets_it_stand_again(site: Site) -> None:
    site.run(0.1, Request.DAMP)
    site.run(2.5, Request.STAND)
    site.twin.change(push_ang_vel_b=(9.0, 0.0, 0.0), push_lin_vel_w=(0.0, 0.0, 2.0))
    assert site.run(1.5) is Mode.DAMP
    assert site.loop.situation.fault & Reason.TILT
    site.twin.lift()
    site.run(0.1)
    assert site.run(2.5, Request.STAND) is Mode.STAND
    assert site.height > 0.18 and abs(site.loop.latest.state.quat_xyzw[3]) > 0.9


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Failure.STALE, Reason.STATE_STALE),
        (Failure.NAN, Reason.STATE_INVALID),
        (Failure.DISCONNECT, Reason.LINK_LOST),
    ],
)
def test_a_failing_robot_is_damped_with_the_reason(site: Site, failure: Failure, reason: Reason) -> None:
    site.run(0.1, Request.DAMP)
    site.run(2.5, Request.STAND)
    site.twin.fail(failure)
    assert site.run(0.2) is Mode.DAMP
    assert site.loop.situation.fault & reason
    site.twin.heal()
    assert site.run(0.1) is Mode.DAMP  # it stays there until somebody asks
    assert site.run(0.1, Request.STAND) is Mode.STAND
    assert np.isfinite(site.loop.latest.sent.pos).all()
