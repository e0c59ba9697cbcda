"""Seeded exploration: known numbers, the normal law, and files whose exploration was tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_rl.contract.exploration import (
    KEY_EXPLORATION,
    Exploration,
    check_seed,
    draw,
    draw_index,
    inverse_normal,
    parse_exploration,
)
from robot_rl.contract.golden import read_bundle
from robot_rl.contract.model_file import read_model_file, with_metadata
from tests.contract.strategies import POLICIES

GSDE = POLICIES / "go2_gsde.onnx"
TINY = POLICIES / "go2_tiny.onnx"


def test_the_generator_gives_the_numbers_it_always_gave() -> None:
    """Written down once; a log of a robot is worth nothing where these change."""
    assert draw(7, 3, (2, 3)).tobytes().hex() == "40cd773dbb8c37bdf3ba0abf285d183f254aafbf043ad2bf"
    assert draw(2**64 - 1, 2**63, (2,)).tobytes().hex() == "037903c0d1e34dbf"


def test_the_generator_is_the_one_of_its_docstring() -> None:
    """Philox written out, its first counter 1, against the draw of a seed, without NumPy's generator."""
    word = 2**64 - 1
    c0, c1, c2, c3, k0, k1 = 1, 0, 0, 0, 7, 3
    for _ in range(10):
        p0, p1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (p1 >> 64) ^ c1 ^ k0, p1 & word, (p0 >> 64) ^ c3 ^ k1, p0 & word
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & word, (k1 + 0xBB67AE8584CAA73B) & word
    halves = [half for x in (c0, c1, c2, c3) for half in (x & 0xFFFFFFFF, x >> 32)]
    expected = [NormalDist().inv_cdf((half + 0.5) / 2**32) for half in halves]
    np.testing.assert_allclose(draw(7, 3, (8,)), expected, rtol=1e-6)


def test_the_quantiles_are_those_of_the_normal_law() -> None:
    p = np.concatenate(((np.arange(0, 2**32, 2**32 // 5000) + 0.5) / 2**32, [2.0**-33, 1.0 - 2.0**-33, 0.075, 0.925]))
    expected = [NormalDist().inv_cdf(float(x)) for x in p]
    np.testing.assert_allclose(inverse_normal(p), expected, rtol=2e-15, atol=1e-15)


def test_draws_are_standard_normal_and_independent() -> None:
    x = np.stack([draw(1, i, (64, 12)).ravel() for i in range(300)]).astype(np.float64)  # 230400 numbers
    assert abs(x.mean()) < 0.01 and x.std() == pytest.approx(1.0, abs=0.01)
    assert (x**4).mean() == pytest.approx(3.0, abs=0.1)
    assert abs((x[1:] * x[:-1]).mean()) < 0.01  # from draw to draw
    assert abs((x[:, 1:] * x[:, :-1]).mean()) < 0.01  # within a draw
    assert abs((draw(1, 0, (500, 100)) * draw(2, 0, (500, 100))).mean()) < 0.02  # from seed to seed


@settings(max_examples=20)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(1, 9), st.integers(1, 9))
def test_a_draw_depends_on_seed_and_index_alone(seed: int, index: int, features: int, actions: int) -> None:
    xi = draw(seed, index, (features, actions))
    assert xi.dtype == np.float32 and xi.shape == (features, actions)
    assert np.array_equal(xi, draw(seed, index, (features, actions)))
    assert np.array_equal(xi.ravel(), draw(seed, index, (99,))[: features * actions])  # size changes nothing else
    assert not np.array_equal(draw(seed, index, (99,)), draw(seed, (index + 1) % 2**64, (99,)))
    with pytest.raises(ValueError, match="read-only"):
        xi[0, 0] = 0.0


def test_a_new_matrix_comes_every_interval() -> None:
    assert [draw_index(tick, 4) for tick in range(9)] == [0, 0, 0, 0, 1, 1, 1, 1, 2]
    assert [draw_index(tick, 1) for tick in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_the_generators_keys_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"exploration seed is {seed}; it must lie in \[0, 2\^64\)"):
        check_seed(seed)


def test_what_is_written_is_read() -> None:
    said = Exploration((8, 2), 5, 3, 1, np.array([[0.1, -0.2], [0.3, 1e-7]]))
    again = parse_exploration(said.to_json(), (8, 2), "here")
    assert again.to_json() == said.to_json() and again.shape == (8, 2)


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda raw: raw.update(interval=0), r"interval is 0; expected a whole number in \[1, 2\^64\)"),
        (lambda raw: raw.update(seed=-1), r"seed is -1; expected a whole number in \[0, 2\^64\)"),
        (lambda raw: raw.update(first=True), "first is True; expected a whole number"),
        (
            lambda raw: raw.update(generator="mt19937"),
            "generator is 'mt19937'; this version has 'philox4x64-10, AS 241'",
        ),
        (lambda raw: raw.pop("seed"), r"has the fields \['actions', 'first', 'generator', 'interval'\]; expected"),
        (lambda raw: raw["actions"].pop(), r"actions has shape \(11, 12\); expected \(12, 12\)"),
        (lambda raw: raw.update(actions=[["a"]]), "actions is no array of numbers"),
    ],
)
def test_damaged_metadata_is_refused_by_name(tmp_path: Path, edit: Edit, reason: str) -> None:
    metadata = read_model_file(GSDE).metadata
    raw = json.loads(metadata[KEY_EXPLORATION])
    edit(raw)
    path = tmp_path / "p.onnx"
    path.write_bytes(with_metadata(GSDE.read_bytes(), metadata | {KEY_EXPLORATION: json.dumps(raw)}))
    with pytest.raises(ValueError, match=reason):
        read_bundle(path)


def test_input_and_metadata_come_together_or_not_at_all(tmp_path: Path) -> None:
    metadata = read_model_file(GSDE).metadata
    path = tmp_path / "p.onnx"
    less = {key: value for key, value in metadata.items() if key != KEY_EXPLORATION}
    path.write_bytes(with_metadata(GSDE.read_bytes(), less))
    with pytest.raises(ValueError, match=r"has the input 'exploration' without the metadata 'robot_rl\.exploration'"):
        read_bundle(path)
    more = read_model_file(TINY).metadata | {KEY_EXPLORATION: metadata[KEY_EXPLORATION]}
    path.write_bytes(with_metadata(TINY.read_bytes(), more))
    with pytest.raises(ValueError, match=r"has the metadata 'robot_rl.exploration' without the input 'exploration'"):
        read_bundle(path)
