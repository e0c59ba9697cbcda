"""Exploration noise: silent by default, seeded, bounded, as large as asked."""

from __future__ import annotations

import numpy as np
import pytest

from robot_rl.runtime.probe import MAX_STD, Probe


def test_silent_probe_returns_the_action_itself() -> None:
    action = np.full(3, 0.2, np.float32)
    assert Probe(3)(action) is action


def test_noise_has_the_deviation_and_correlation_asked_for() -> None:
    probe, zero = Probe(1, std=0.1, smoothness=0.5, seed=1), np.zeros(1, np.float32)
    noise = np.array([probe(zero)[0] for _ in range(20_000)])[100:]
    assert noise.std() == pytest.approx(0.1, rel=0.03)
    assert np.corrcoef(noise[:-1], noise[1:])[0, 1] == pytest.approx(0.5, abs=0.03)


def test_same_seed_gives_the_same_noise_and_actions_stay_bounded() -> None:
    one, two = Probe(4, std=MAX_STD, seed=7), Probe(4, std=MAX_STD, seed=7)
    edge = np.ones(4, np.float32)
    for _ in range(50):
        a, b = one(edge), two(edge)
        assert np.array_equal(a, b)
        assert (np.abs(a) <= 1.0).all()


@pytest.mark.parametrize("std", [-0.1, MAX_STD + 0.01, float("nan")])
def test_bad_deviation_names_the_range(std: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 0.5\]"):
        Probe(2, std=std)
