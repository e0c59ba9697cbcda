"""The main job of architecture section 9, as processes: train, export, check, run, record, take over, tune, swap."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.contract.golden import read_bundle
from robot_rl.data.episodes import read_episodes
from robot_rl.data.transition import Mode, Who
from robot_rl.wire import messages as msg
from robot_rl.wire.operator import Operator, RefusedError
from robot_rl.wire.standard import stamped
from tests.e2e.processes import RELEASED, end, operator, robot, rows_of, spawn, wait_for, walk_on

DOMAIN = 71


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    """Run ``robot-rl`` to its end."""
    command = [sys.executable, "-m", "robot_rl.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_train_exports_a_policy_that_check_accepts_and_eval_runs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained = cli(
        "train", "go2_walk_ppo", "--total-steps", 12_000, "--num-envs", 32, "--seed", 3, "--out", run, "--no-progress"
    )
    assert trained.returncode == 0, trained.stderr
    assert (run / "report.html").stat().st_size > 2_000
    policy = run / "policy.onnx"
    assert read_bundle(policy).provenance["recipe"] == "go2_walk_ppo"
    checked = cli("check", policy, "--robot", "go2")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    refused = cli("check", policy, "--robot", "cartpole")
    assert refused.returncode == 1
    numbers = json.loads(cli("eval", policy, "--episodes", 2, "--json").stdout)
    assert set(numbers) >= {"episodes", "fall_rate", "lin_vel_error", "yaw_rate_error", "return_mean", "return_ci95"}


@pytest.mark.timeout(420)
def test_released_policy_walks_is_taken_over_tuned_and_swapped_while_it_moves(tmp_path: Path) -> None:
    store, inbox, events = tmp_path / "episodes", tmp_path / "inbox", []
    logs = (tmp_path / "robot.log", tmp_path / "learner.log")
    body = robot(tmp_path / "robot.log", DOMAIN, store, speed=2.0)
    learner = None
    try:
        with operator(DOMAIN, events) as op:
            wait_for(lambda: op.status is not None or body.poll() is not None, timeout_s=60, what="the robot")
            with pytest.raises(RefusedError, match="POLICY cannot follow OFF"):
                op.ask("mode", "policy")
            op.drive((0.5, 0.0, 0.0))
            op.start_policy()
            time.sleep(3.0)
            take_over(op)
            op.ask("explore", "0.08")
            learner = spawn(
                tmp_path / "learner.log", DOMAIN, "finetune", "go2_tune_rlpd", "--policy", RELEASED,
                "--episodes", store, "--inbox", inbox, "--out", tmp_path / "learner", "--wire", "dds", "--no-progress",
            )  # fmt: skip
            wait_for(lambda: swapped_twice(op, events), timeout_s=240, what="two live swaps", logs=logs)
            offer_damaged(op, tmp_path)
            wait_for(lambda: count(events, "swap_refused") >= 1, timeout_s=30, what="the refusal", logs=logs)
            wait_for(lambda: walks_on_swapped(op), timeout_s=30, what="a status that counts them", logs=logs)
            op.ask("label", "success")
            op.estop()
            op.wait(lambda s: s.mode == Mode.DAMP and s.estop, timeout_s=5.0, what="DAMP by e-stop")
            with pytest.raises(RefusedError, match="e-stop"):
                op.ask("mode", "stand")
    finally:
        codes = [end(process) for process in (learner, body) if process is not None]
    assert codes == [0, 0], "\n".join(log.read_text()[-2000:] for log in logs)
    examine(store)


def take_over(op: Operator) -> None:
    """A person drives with the standing pose for a second, then hands back."""
    op.ask("takeover", "on")
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        op.transport.publish(msg.TAKEOVER_ACTION, msg.TakeoverAction(stamped(), action=np.zeros(12, np.float32)))
        time.sleep(0.02)
    op.ask("takeover", "off")
    op.wait(lambda s: s.mode == Mode.POLICY, timeout_s=5.0, what="the policy to drive again")


def swapped_twice(op: Operator, events: list[tuple[str, str]]) -> bool:
    """Whether two policies of the learner took over; a robot that only silence damped is stood up meanwhile."""
    walk_on(op)
    return count(events, "swap") >= 2


def walks_on_swapped(op: Operator) -> bool:
    """Whether the newest status, which comes by a topic of its own and later than the events, agrees with them."""
    walk_on(op)
    status = op.status
    return status is not None and status.mode == Mode.POLICY and status.swaps >= 2 and status.refusals >= 1


def offer_damaged(op: Operator, folder: Path) -> None:
    """Offer a policy whose weights were changed after export."""
    data = bytearray(RELEASED.read_bytes())
    data[len(data) // 2] ^= 0x40
    path = folder / "damaged.onnx"
    path.write_bytes(bytes(data))
    sha256 = hashlib.sha256(bytes(data)).hexdigest()
    op.transport.publish(msg.OFFER, msg.PolicyOffer(stamped(), uri=str(path), sha256=sha256, recipe="damaged"))


def count(events: list[tuple[str, str]], kind: str) -> int:
    return sum(name == kind for name, _ in events)


def examine(store: Path) -> None:
    """The recording tells the whole story: who drove, what was sent, which policy, and that nothing is missing."""
    rows = rows_of(store)
    assert np.array_equal(rows["tick"], np.unique(rows["tick"]))
    driven = rows[np.isin(rows["mode"], (Mode.POLICY, Mode.TAKEOVER))]
    assert (driven["who"] == Who.HUMAN).sum() >= 20
    assert len(np.unique(driven["policy"])) >= 3, "the released policy and two fine-tuned ones drove"
    walking = driven[driven["who"] == Who.POLICY]
    assert np.median(walking["lin_vel_b"][:, 0]) == pytest.approx(0.5, abs=0.2)
    period = 0.02
    jumps = np.abs(np.diff(driven["sent_pos"], axis=0))[np.diff(driven["tick"].astype(np.int64)) == 1]
    assert jumps.max() <= 40.0 * period + 1e-5, "no command step beyond the shield's rate limit"
    kinds = {event["event"] for episode in read_episodes(store) for event in episode.events}
    assert {"swap", "swap_refused"} <= kinds
