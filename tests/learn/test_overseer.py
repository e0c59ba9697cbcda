"""Overseers take over when they say, for as long as they say, and drive as well as they are made to."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pytest
import torch
from torch import Tensor

from robot_rl.learn import rlpd
from robot_rl.learn.overseer import UNIFORM, Judge, Overseer, Strategy, at_random, by_critics, in_turns

GOOD = torch.tensor([[0.5, -0.5]])


def expert(obs: dict[str, Tensor]) -> Tensor:
    return GOOD.expand(len(obs["policy"]), 2)


def judge(obs: dict[str, Tensor], action: Tensor) -> Tensor:
    """10 at the expert's action, less elsewhere."""
    return obs["policy"][:, 0] - (action - GOOD).abs().sum(-1)


def seen(n: int, level: float = 10.0) -> dict[str, Tensor]:
    return {"policy": torch.full((n, 1), level)}


def watch(overseer: Overseer, action: Tensor, steps: int, level: float = 10.0) -> Tensor:
    """Who acted, (T, N), when the policy always does ``action``."""
    return torch.stack([overseer.oversee(seen(len(action), level), action)[1] for _ in range(steps)])


def runs(who: Tensor) -> list[tuple[bool, int]]:
    return [(bool(key), len(list(group))) for key, group in groupby(who.tolist())]


def test_a_sure_judge_takes_over_for_four_steps_and_lets_the_policy_try_again() -> None:
    overseer = Overseer(Strategy(certainty=1.0), 2, expert=expert, judge=judge)
    who = watch(overseer, torch.stack((torch.zeros(2), GOOD[0])), 11)
    assert runs(who[:, 0]) == [(True, 4), (False, 1), (True, 4), (False, 1), (True, 1)]  # at most 80 %
    assert not who[:, 1].any()  # the reference's own action is never bad, even with relative = 1
    same = Overseer(Strategy(relative=1.0, certainty=1.0), 3, expert=expert, judge=judge)
    assert not watch(same, GOOD.expand(3, 2), 50).any()


def test_what_is_executed_is_the_experts_where_it_acts() -> None:
    overseer = Overseer(Strategy(certainty=1.0), 2, expert=expert, judge=judge)
    wanted = torch.stack((torch.zeros(2), GOOD[0] + 0.01))
    action, human = overseer.oversee(seen(2), wanted)
    assert human.tolist() == [True, False]
    assert torch.equal(action, torch.stack((GOOD[0], GOOD[0] + 0.01)))


def test_an_unsure_judge_errs_both_ways_as_often_as_it_says() -> None:
    once = Strategy(certainty=0.9, takeover_steps=(1, 1), pause_steps=(0, 0))
    overseer = Overseer(once, 2_000, expert=expert, judge=judge)
    bad = torch.zeros(2_000, 2)
    bad[1_000:] = GOOD
    who = watch(overseer, bad, 5).float()
    assert who[:, :1_000].mean() == pytest.approx(0.9, abs=0.02)
    assert who[:, 1_000:].mean() == pytest.approx(0.1, abs=0.02)


def test_relative_values_must_be_positive_and_a_margin_suits_any() -> None:
    overseer = Overseer(Strategy(certainty=1.0), 1, expert=expert, judge=judge)
    with pytest.raises(ValueError, match=r"values a reference action at -5; .* set Strategy\.margin"):
        watch(overseer, torch.zeros(1, 2), 1, level=-5.0)
    margins = {0.9: True, 1.1: False}  # doing nothing is worse by 1.0
    for margin, takes_over in margins.items():
        additive = Overseer(Strategy(margin=margin, certainty=1.0), 1, expert=expert, judge=judge)
        assert bool(watch(additive, torch.zeros(1, 2), 1, level=-5.0)) is takes_over


def test_the_reference_may_be_another_than_the_expert() -> None:
    def poor(obs: dict[str, Tensor]) -> Tensor:
        return -expert(obs)

    overseer = Overseer(Strategy(certainty=1.0), 1, expert=poor, judge=judge, reference=expert)
    action, human = overseer.oversee(seen(1), torch.zeros(1, 2))
    assert bool(human) and torch.equal(action, -GOOD)  # judged by the good one, driven by the poor one
    assert not watch(Overseer(Strategy(certainty=1.0), 1, expert=poor, judge=judge), torch.zeros(1, 2), 9).any()


@pytest.mark.parametrize("rule", [{"margin": 0.5}, {"relative": 0.97}])
def test_of_a_panel_one_objection_is_enough(rule: dict[str, float]) -> None:
    def fooled(obs: dict[str, Tensor], action: Tensor) -> Tensor:
        return torch.where(action[:, 0] < -0.9, 9.0, 1.0) * torch.ones(len(action))  # likes one bad action best

    wanted = torch.stack((torch.tensor([-1.0, 0.0]), GOOD[0]))
    for judges, takes_over in (((fooled,), [False, False]), ((fooled, judge), [True, False])):

        def both(obs: dict[str, Tensor], action: Tensor, judges: Sequence[Judge] = judges) -> Tensor:
            return torch.stack([one(obs, action) for one in judges])

        overseer = Overseer(Strategy(certainty=1.0, **rule), 2, expert=expert, judge=both)
        assert watch(overseer, wanted, 1, level=5.0).tolist() == [takes_over]


@pytest.mark.parametrize("rule", [{"margin": 9.0}, {"relative": 0.1}])
def test_who_is_about_to_fall_is_taken_over_whatever_they_do(rule: dict[str, float]) -> None:
    overseer = Overseer(Strategy(certainty=1.0, floor=4.0, **rule), 2, expert=expert, judge=judge)
    wanted = torch.stack((torch.zeros(2), GOOD[0]))
    assert watch(overseer, wanted, 1, level=4.5).tolist() == [[False, False]]
    assert watch(overseer, wanted, 1, level=3.5).tolist() == [[True, True]]


def test_a_distance_is_judged_without_values() -> None:
    strategy = Strategy("distance", threshold=0.5, certainty=1.0)
    wanted = torch.stack((GOOD[0] + 0.2, GOOD[0] + 0.3))
    assert watch(Overseer(strategy, 2, expert=expert), wanted, 1).tolist() == [[False, True]]


def test_hindsight_judges_what_was_done_and_never_what_is_about_to_be() -> None:
    overseer = Overseer(Strategy(certainty=1.0, hindsight=True), 1, expert=expert, judge=judge)
    bad, good = torch.zeros(1, 2), GOOD
    who = [bool(overseer.oversee(seen(1), action)[1]) for action in (good, bad, good, bad, bad, bad, good, good)]
    first, second = [False, False, True], [True, True, True, False, False]
    assert who == first + second  # after the bad ones; not for what came in between
    overseer.oversee(seen(1), bad)
    overseer.forget(torch.tensor([True]))
    assert not bool(overseer.oversee(seen(1), good)[1])  # that was in another episode


def test_random_overseers_take_over_at_their_rate() -> None:
    who = watch(Overseer(at_random(0.3), 500, expert=expert), GOOD.expand(500, 2), 100).float()
    assert who.mean() == pytest.approx(0.3, abs=0.01)
    assert (who[1:] * who[:-1]).mean() == pytest.approx(0.09, abs=0.01)  # every step anew


@pytest.mark.parametrize("level", range(4))
def test_uniform_overseers_pause_and_take_over_in_turns(level: int) -> None:
    (least_pause, most_pause), (least, most) = UNIFORM[level]
    found = runs(watch(Overseer(in_turns(level), 1, expert=expert), GOOD, 800)[:, 0])[:-1]
    assert not found[0][0]  # the policy begins
    assert {n for human, n in found if human} == set(range(least, most + 1))
    assert {n for human, n in found if not human} == set(range(least_pause, most_pause + 1))


def test_a_new_episode_begins_without_a_takeover() -> None:
    overseer = Overseer(Strategy(certainty=1.0), 2, expert=expert, judge=judge)
    watch(overseer, torch.zeros(2, 2), 2)
    overseer.forget(torch.tensor([True, False]))
    who = watch(overseer, GOOD.expand(2, 2), 3)
    assert who.tolist() == [[False, True], [False, True], [False, False]]


def test_a_resumed_overseer_goes_on_as_it_would_have() -> None:
    strategy = Strategy("random", rate=0.3, takeover_steps=(2, 6), pause_steps=(0, 4), errors=0.5)
    whole, half = (Overseer(strategy, 8, expert=expert, seed=3) for _ in range(2))
    assert torch.equal(watch(whole, GOOD.expand(8, 2), 20), watch(half, GOOD.expand(8, 2), 20))
    again = Overseer(strategy, 8, expert=expert)
    again.restore(half.snapshot())
    assert torch.equal(watch(whole, GOOD.expand(8, 2), 20), watch(again, GOOD.expand(8, 2), 20))


def test_a_poor_expert_errs_at_its_share_of_steps() -> None:
    always = Strategy("random", rate=1.0, errors=0.3)
    action, _ = Overseer(always, 4_000, expert=expert).oversee(seen(4_000), torch.zeros(4_000, 2))
    wrong = (action != GOOD).any(-1)
    assert wrong.float().mean() == pytest.approx(0.3, abs=0.03)
    assert action[wrong].mean(0).abs().max() < 0.06 and action.abs().max() <= 1.0


def test_an_agents_critics_judge_by_their_mean() -> None:
    agent = rlpd.make_agent(rlpd.Config(critics=3, hidden=(8, 8)), obs_size=2, num_actions=1, critic_obs_size=3)
    rlpd.fix_statistics(agent, torch.randn(50, 3) * 3.0 + 1.0)
    obs = {"policy": torch.randn(5, 2), "critic": torch.randn(5, 1)}
    values = by_critics(agent)(obs, torch.randn(5, 1))
    assert values.shape == (5,) and values.std() > 0.0
    shifted = {"policy": obs["policy"] + 1.0, "critic": obs["critic"]}
    assert not torch.allclose(by_critics(agent)(shifted, torch.zeros(5, 1)), by_critics(agent)(obs, torch.zeros(5, 1)))


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"kind": "mood"}, "no overseer 'mood'"),
        ({"certainty": 1.5}, "certainty is 1.5"),
        ({"takeover_steps": (0, 4)}, r"takeover_steps is \(0, 4\)"),
        ({"pause_steps": (3, 1)}, r"pause_steps is \(3, 1\)"),
    ],
)
def test_strategies_that_make_no_sense_are_refused(setting: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Strategy(**setting)
    with pytest.raises(ValueError, match="needs a judge"):
        Overseer(Strategy(), 1, expert=expert)
