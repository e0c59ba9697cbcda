"""A person takes over on the twin; the recording alone tells what was learnt from it live, and fine-tuning uses it."""

from __future__ import annotations

import json
import signal
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robot_rl import zoo
from robot_rl.cli import finetune
from robot_rl.contract.apply import ActionMap, Observer
from robot_rl.contract.golden import read_bundle
from robot_rl.data.episodes import EpisodeWriter, read_episodes
from robot_rl.data.feeder import Feeder, as_transitions
from robot_rl.data.interventions import Labelling, clone_rows, intervention_reward, ledger_onsets, rewards
from robot_rl.data.replay import Replay, transition_columns
from robot_rl.data.transition import Mode, Who
from robot_rl.hardware.robot import load_robot
from robot_rl.learn.learner import FineTuning
from robot_rl.runtime.clock import SimClock
from robot_rl.runtime.loop import ControlLoop
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.recorder import Recorder
from robot_rl.sim.twin import Twin

RELEASED = zoo.find("policies", "released/go2_walk_ppo")
ROBOT = load_robot("go2")
CONTRACT = read_bundle(RELEASED).contract


@dataclass(slots=True)
class Live:
    """What a bystander writes down while the robot moves, a tick each."""

    tick: list[int] = field(default_factory=list)
    human: list[bool] = field(default_factory=list)
    cloned: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """What the person saw and did, hand-backs aside."""


@dataclass(slots=True)
class Session:
    store: Path
    live: Live
    ledger: list
    stopped: int
    """The tick before the e-stop."""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """Walk, take over, again inside the hand-back, again after it, and end with an e-stop."""
    store, live = tmp_path_factory.mktemp("session") / "store", Live()
    clock = SimClock(CONTRACT.rate_hz)
    twin = Twin(ROBOT, clock=clock)
    twin.connect()
    recorder = Recorder(EpisodeWriter(store, CONTRACT, ROBOT), CONTRACT, ROBOT)
    recorder.start()
    loop = ControlLoop(twin, Policy.load(RELEASED, ROBOT), clock, recorder)
    observer, action_map = Observer(CONTRACT, ROBOT.joints), ActionMap(CONTRACT, ROBOT.joints)

    def run(ticks: int, ask: Request | None = None, why: str = "operator") -> None:
        if ask is not None:
            loop.requests.ask(ask, why)
        for _ in range(ticks):
            loop.requests.command((0.3, 0.0, 0.0))
            if ask is Request.TAKEOVER:
                loop.requests.human(np.full(12, 0.1, np.float32))
            loop.tick()
            clock.wait()
            now = loop.latest
            if now.mode in (Mode.POLICY, Mode.TAKEOVER):
                seen = observer(now.state).copy()
                live.tick.append(now.tick)
                live.human.append(now.who == Who.HUMAN)
                if now.mode == Mode.TAKEOVER:
                    live.cloned.append((seen, action_map.action(now.sent, now.state).copy()))

    run(10, Request.DAMP)
    run(150, Request.STAND)
    run(120, Request.POLICY)
    run(30, Request.TAKEOVER, "it limps")
    run(5, Request.POLICY)  # the ramp back takes 15
    run(30, Request.TAKEOVER, "it limps still")
    run(120, Request.POLICY)
    run(40, Request.TAKEOVER, "a stair")
    run(200, Request.POLICY)
    stopped = loop.latest.tick
    loop.requests.estop()
    run(5)
    recorder.close()
    twin.close()
    return Session(store, live, list(loop.takeover.ledger), stopped)


def blamed(session: Session) -> list[int]:
    """Ticks of the steps that the recording punishes."""
    ticks: list[int] = []
    for episode in read_episodes(session.store):
        labels = as_transitions(episode.rows, intervention_reward())["reward"]
        assert len(labels) == len(episode.rows) - 1  # every row but the last begins a transition
        ticks += episode.rows["tick"][:-1][labels == -1].tolist()
    return ticks


def test_the_recording_blames_what_the_ledger_blames(session: Session) -> None:
    spans = session.ledger
    who, first, ticks = ([getattr(span, name) for span in spans] for name in ("who", "first_tick", "ticks"))
    assert [(Who(w), span.why) for w, span in zip(who, spans, strict=True)] == [
        (Who.POLICY, "operator"), (Who.HUMAN, "it limps"), (Who.POLICY, "operator"), (Who.HUMAN, "a stair"),
        (Who.POLICY, "operator"),
    ]  # fmt: skip
    from_ledger = ledger_onsets(who, first, ticks).tolist()
    assert len(from_ledger) == 2  # the take-over inside the ramp is one with that before it
    assert blamed(session) == [*from_ledger, session.stopped]


def test_the_recording_gives_the_rewards_that_were_seen_live(session: Session) -> None:
    human = np.array(session.live.human)
    steps = len(human)
    stopped = np.arange(steps) == steps - 1
    live = rewards(human, stopped, np.zeros(steps, bool), stopped=stopped)
    (episode,) = read_episodes(session.store)
    assert episode.rows["tick"][:-1].tolist() == session.live.tick
    assert as_transitions(episode.rows, intervention_reward())["reward"].tolist() == live.tolist()


def test_the_recording_gives_the_set_that_hg_dagger_saw_live(session: Session) -> None:
    (episode,) = read_episodes(session.store)
    cloned = clone_rows(episode.rows)
    seen, done = (np.stack(part) for part in zip(*session.live.cloned, strict=True))
    assert len(seen) == 100
    assert np.array_equal(cloned["obs"], seen.astype(np.float32))
    assert np.allclose(cloned["action"], done, atol=1e-6)
    assert cloned["action"][-1] == pytest.approx(0.1, abs=1e-3)  # what the person wanted, the ramp over


def test_the_recording_says_what_the_policy_would_have_done(session: Session) -> None:
    (episode,) = read_episodes(session.store)
    rows = episode.rows[episode.rows["who"] == Who.HUMAN]
    policy = Policy.load(RELEASED, ROBOT)
    would = np.stack([policy.infer(obs).copy() for obs in rows["obs"]])
    assert would == pytest.approx(rows["policy_action"], abs=1e-5)
    assert np.abs(rows["action"] - would).mean() > 0.05


def test_a_feeder_that_follows_gives_them_too(session: Session) -> None:
    replay = Replay(10_000, transition_columns(CONTRACT.obs_size, CONTRACT.num_actions))
    feeder = Feeder(session.store, CONTRACT, replay, intervention_reward())
    while feeder.poll(max_rows=7):
        pass
    feeder.close()
    assert (replay.split(replay.rows[: replay.total])["reward"] == -1).sum() == len(blamed(session)) == 3


def test_finetune_learns_from_takeovers_alone(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    args = finetune.Args(
        "go2_tune_rlif", RELEASED, session.store, tmp_path / "inbox", max_updates=40, progress=False
    )  # fmt: skip
    assert finetune.run(args) == 0
    (final,) = (tmp_path / "inbox").glob("policy_final_*.onnx")
    assert read_bundle(final).provenance["recipe"] == "go2_tune_rlif"
    rows = [json.loads(line) for line in (tmp_path / "inbox" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(-1.0 < row["loss/reward"] <= 0.0 for row in rows)
    assert min(row["loss/reward"] for row in rows) < 0.0


def test_rules_that_need_the_future_are_refused_while_a_robot_records() -> None:
    tuning = zoo.load("policies", "recipes/go2_tune_rlif").recipe()
    assert tuning.reward == "intervention"
    with pytest.raises(ValueError, match="judged with the next alone"):
        FineTuning(tuning.task, tuning.config, reward="intervention", labelling=Labelling(blame_window=3))
    with pytest.raises(ValueError, match=r"no reward 'keyboard'; the choices are \('task', 'inter"):
        FineTuning(tuning.task, tuning.config, reward="keyboard")
