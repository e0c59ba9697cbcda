"""Interventions become rewards and sets to clone: by the definition, step by step, and from recorded rows alike."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.data.feeder import Feeder, as_transitions
from robot_rl.data.interventions import (
    RLIF,
    Labelling,
    Pending,
    clone_rows,
    intervention_reward,
    lasting_cost,
    ledger_onsets,
    rewards,
    route,
)
from robot_rl.data.replay import Replay, sample_symmetric, transition_columns
from robot_rl.data.transition import Mode, Who
from tests.data.recording import CONTRACT, make_rows, make_writer

STEP = st.tuples(st.booleans(), st.sampled_from(["goes on"] * 5 + ["terminated", "truncated", "stopped"]))
STREAMS = st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(STEP, min_size=n, max_size=n), min_size=1, max_size=25))


def people(text: str) -> np.ndarray:
    """``"RRHH"``: who acted in each step."""
    return np.array([letter == "H" for letter in text])


def label(text: str, *, ends: dict[int, str] | None = None, labelling: Labelling = RLIF) -> list[float]:
    ends = ends or {}
    fell, late, stop = (np.array([ends.get(t) == kind for t in range(len(text))]) for kind in ("fell", "time", "stop"))
    return rewards(people(text), fell | stop, late, stopped=stop, labelling=labelling).tolist()


def by_definition(human: list[bool], ends: list[str], window: int, end_reward: float) -> list[float]:
    """One environment, step by step, looking ahead."""
    found = [end_reward if end in ("terminated", "stopped") else 0.0 for end in ends]
    run: list[int] = []
    for t, (person, end) in enumerate(zip(human, ends, strict=True)):
        run = [] if person else [*run, t]
        over = end != "goes on"
        taken = not over and t + 1 < len(human) and human[t + 1]
        if run and (taken or end == "stopped"):
            for guilty in run[-window:]:
                found[guilty] -= 1.0 / len(run[-window:])
        if over:
            run = []
    return found


def split(stream: list[list[tuple[bool, str]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return human, terminated, truncated, stopped, each (T, N)."""
    human = np.array([[person for person, _ in step] for step in stream])
    ends = np.array([[end for _, end in step] for step in stream])
    return human, (ends == "terminated") | (ends == "stopped"), ends == "truncated", ends == "stopped"


def test_only_the_step_before_a_takeover_costs() -> None:
    assert label("RRHHHHR") == [0, -1, 0, 0, 0, 0, 0]
    assert label("HHRR") == [0, 0, 0, 0]  # a take-over at the start is nobody's fault
    assert label("RHRHRH") == [-1, 0, -1, 0, -1, 0]


def test_blame_never_crosses_an_episode() -> None:
    for end in ("fell", "time"):
        assert label("RRHH", ends={1: end}) == [0, 0, 0, 0]
    assert label("RRHRRH", ends={1: "time"}) == [0, 0, 0, 0, -1, 0]
    assert label("RRRH", ends={1: "fell"}, labelling=Labelling(blame_window=3)) == [0, 0, -1, 0]


def test_an_episode_that_the_overseer_ends_costs_the_policy() -> None:
    assert label("RRR", ends={1: "stop"}) == [0, -1, 0]
    assert label("RHH", ends={2: "stop"}) == [-1, 0, 0]  # the person's own step is never punished
    assert label("RR", ends={1: "fell"}, labelling=Labelling(end_reward=-20.0)) == [0, -20]


def test_late_people_blame_the_last_steps_and_the_sum_stays() -> None:
    third = pytest.approx(-1 / 3)
    assert label("RRRRHR", labelling=Labelling(blame_window=3)) == [0, third, third, third, 0, 0]
    assert label("HRRH", labelling=Labelling(blame_window=3)) == [0, -0.5, -0.5, 0]


def test_the_lasting_cost_is_the_value_of_being_taken_over_again_and_again() -> None:
    steps = np.arange(5_000)
    assert lasting_cost(0.99, takeover_steps=4) == pytest.approx(-(0.99 ** steps[steps % 5 == 0]).sum())


@settings(max_examples=40)
@given(STREAMS, st.integers(1, 4), st.sampled_from([0.0, -5.0]))
def test_labels_are_those_of_the_definition_in_each_environment(stream: list, window: int, end_reward: float) -> None:
    human, terminated, truncated, stopped = split(stream)
    rules = Labelling(blame_window=window, end_reward=end_reward)
    found = rewards(human, terminated, truncated, stopped=stopped, labelling=rules)
    for i in range(human.shape[1]):
        slow = by_definition(human[:, i].tolist(), [step[i][1] for step in stream], window, end_reward)
        assert found[:, i] == pytest.approx(slow, abs=1e-6)


@settings(max_examples=40)
@given(STREAMS, st.integers(1, 4), st.booleans())
def test_steps_that_wait_come_out_once_in_order_with_the_labels_of_the_whole_stream(
    stream: list, window: int, store: bool
) -> None:
    human, terminated, truncated, stopped = split(stream)
    steps, n = human.shape
    rules = Labelling(blame_window=window, end_reward=-3.0, store_takeover_steps=store)
    task = np.arange(steps * n, dtype=np.float32).reshape(steps, n)  # a task's reward, and the name of the step
    pending, out = Pending(n, rules), []
    for t in range(steps):
        if t == steps // 2:  # a killed learner goes on
            pending, old = Pending(n, rules), pending.state_dict()
            pending.load_state_dict(old)
        columns = {"reward": task[t], "name": task[t], "env": np.arange(n)}
        ends = {"terminated": terminated[t], "truncated": truncated[t], "stopped": stopped[t]}
        out.append(pending.push(columns, human=human[t], **ends))
    out.append(pending.flush())
    out = [part for part in out if part]
    found = {name: np.concatenate([part[name] for part in out]) for name in out[0]}
    labels = task + rewards(human, terminated, truncated, stopped=stopped, labelling=rules)
    for i in range(n):
        mine, wanted = found["env"] == i, np.ones(steps, bool) if store else ~human[:, i] | terminated[:, i]
        assert found["name"][mine].tolist() == task[wanted, i].tolist()
        assert found["reward"][mine] == pytest.approx(labels[wanted, i], abs=1e-5)
        assert found["human"][mine].tolist() == human[wanted, i].astype(float).tolist()


@settings(max_examples=40)
@given(STREAMS)
def test_as_many_costs_as_takeovers_that_followed_the_policy(stream: list) -> None:
    human, terminated, truncated, _ = split(stream)
    pending = Pending(human.shape[1])
    for t in range(len(human)):
        pending.push(
            {"reward": np.zeros(human.shape[1])}, human=human[t], terminated=terminated[t], truncated=truncated[t]
        )
    ended = terminated | truncated
    starts = (~human[:-1] & human[1:] & ~ended[:-1]).sum()
    assert rewards(human, terminated, truncated).sum() == -starts
    assert pending.onsets == starts


# -- recorded rows -----------------------------------------------------------------------------------------------------


def record(text: str) -> np.ndarray:
    """Rows of one process: P policy, H person, r the person's ramp back, f a fall, t time is up, S an e-stop's row."""
    rows = make_rows(10, len(text))
    for row, letter in zip(rows, text, strict=True):
        row["who"] = {"H": Who.HUMAN, "r": Who.HUMAN, "S": Who.RUNTIME}.get(letter, Who.POLICY)
        row["mode"] = {"H": Mode.TAKEOVER, "S": Mode.DAMP}.get(letter, Mode.POLICY)
        row["terminated"], row["truncated"] = letter in "fS", letter == "t"
    return rows


def label_rows(text: str, labelling: Labelling = RLIF) -> list[float]:
    return as_transitions(record(text), intervention_reward(labelling))["reward"].tolist()


def test_recorded_rows_get_the_labels_of_the_stream() -> None:
    assert label_rows("PPHHHP") == [0, -1, 0, 0, 0]
    assert label_rows("PPSPP") == [0, -1, 0]  # the e-stop's row is only where the step led
    assert label_rows("PHHS") == [-1, 0, 0]
    assert label_rows("PPf", Labelling(end_reward=-20.0)) == [0, -20]
    assert label_rows("PPtHH") == [0, 0, 0]  # time was up before the person took over
    third = pytest.approx(-1 / 3)
    assert label_rows("PtPPPPH", Labelling(blame_window=3)) == [0, 0, third, third, third]


def test_a_takeover_inside_the_ramp_back_is_no_second_onset() -> None:
    assert label_rows("PHHrrHHrrP") == [-1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert label_rows("PHrPHr") == [-1, 0, 0, -1, 0]


def test_a_gap_in_the_recording_hides_an_onset() -> None:
    rows = record("PPPHHH")
    assert as_transitions(np.delete(rows, 3), intervention_reward())["reward"].tolist() == [0, 0, 0]


def test_the_person_alone_is_cloned_with_what_was_sent() -> None:
    rows = record("PPHHHrrPHHt")
    cloned = clone_rows(rows)
    assert cloned["obs"].tolist() == rows["obs"][[2, 3, 4, 8, 9]].tolist()
    assert cloned["action"].tolist() == rows["sent_action"][[2, 3, 4, 8, 9]].tolist()
    assert clone_rows(rows, settle=2)["obs"].tolist() == rows["obs"][[4]].tolist()
    assert clone_rows(rows, robot_steps=True)["obs"].tolist() == rows["obs"][[0, 1, 2, 3, 4, 7, 8, 9]].tolist()
    rows["obs"][3] = np.nan
    assert len(clone_rows(rows)["obs"]) == 4
    assert clone_rows(rows[:0])["obs"].shape == (0, CONTRACT.obs_size)


def test_a_feeder_labels_while_the_robot_records(tmp_path: Path) -> None:
    """In any portions, the onset that falls between two of them included."""
    text = "PPPHHHrrPPPPHHPPPS"
    rows, columns = record(text), transition_columns(CONTRACT.obs_size, CONTRACT.num_actions)
    replay = Replay(100, columns)
    with make_writer(tmp_path) as writer:
        writer.start_episode()
        feeder = Feeder(tmp_path, CONTRACT, replay, intervention_reward())
        for row in range(len(rows)):
            writer.append(rows[row : row + 1])
            writer.flush()
            feeder.poll()
        feeder.close()
    got = replay.split(replay.rows[: replay.total])["reward"]
    assert got.tolist() == label_rows(text)
    assert np.flatnonzero(got == -1).tolist() == [2, 11, 16]


def test_a_ledger_blames_the_same_ticks() -> None:
    text = "PPPHHHrrPPPPHHP"
    rows = record(text)
    who = rows["who"].astype(int).tolist()
    cuts = [0, *(t + 1 for t, (a, b) in enumerate(pairwise(who)) if a != b), len(who)]
    spans = [(who[a], int(rows["tick"][a]), b - a) for a, b in pairwise(cuts)]
    blamed = ledger_onsets(*zip(*spans, strict=True))
    labels = as_transitions(rows, intervention_reward())["reward"]
    assert blamed.tolist() == rows["tick"][:-1][labels == -1].tolist() == [12, 21]
    assert ledger_onsets([Who.POLICY, Who.HUMAN], [0, 50], [20, 5]).size == 0  # the robot stood in between


# -- buffers -----------------------------------------------------------------------------------------------------------


def test_hil_serl_keeps_the_persons_steps_twice_and_samples_halves() -> None:
    human = people("RRHHHRRH")
    buffers = {name: Replay(50, transition_columns(1, 1)) for name in ("online", "demo", "clone")}
    for name, chosen in route(human, "hil_serl").items():
        n = int(chosen.sum())
        zeros = {"obs": np.zeros((n, 1)), "action": np.zeros((n, 1)), "next_obs": np.zeros((n, 1))}
        buffers[name].extend(zeros | {"reward": human[chosen].astype(float), "terminated": np.zeros(n)})
    assert [len(buffers[name]) for name in ("online", "demo", "clone")] == [8, 4, 0]
    batch = sample_symmetric(buffers["demo"], buffers["online"], 3, 16, np.random.default_rng(0))
    assert (batch["reward"][:, :8] == 1.0).all()  # the first half are the person's
    assert 0.0 < batch["reward"][:, 8:].mean() < 1.0


def test_each_method_has_its_buffers() -> None:
    human = people("RHHR")
    sizes = {name: [int(x.sum()) for x in route(human, name).values()] for name in ("rlif", "hg_dagger")}
    assert sizes == {"rlif": [4, 0, 0], "hg_dagger": [0, 0, 2]}
    with pytest.raises(ValueError, match=r"no method 'gail'; the choices are \('rlif', 'hil_serl', 'hg_dagger'\)"):
        route(human, "gail")


@pytest.mark.parametrize(("setting", "says"), [({"blame_window": 0}, "blame_window is 0"), ({"weight": -1.0}, "0 or")])
def test_labels_that_make_no_sense_are_refused(setting: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Labelling(**setting)
