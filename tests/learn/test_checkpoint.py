"""Checkpoints come back as they went, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.learn import checkpoint


def test_a_tree_comes_back_exactly(tmp_path: Path) -> None:
    tree = {
        "weights": {"a": torch.randn(3, 2), "count": torch.tensor(7.0, dtype=torch.float64)},
        "optimiser": {"state": {0: {"step": torch.tensor(3)}, 1: {}}, "lr": 1.0 / 3.0, "betas": (0.9, 0.999)},
        "rng": torch.Generator().get_state(),
        "flags": [True, None, "word", -5],
        "empty": torch.zeros(0, 4),
    }
    checkpoint.save(tmp_path / "a.npz", tree)
    back = checkpoint.load(tmp_path / "a.npz")
    assert torch.equal(back["weights"]["a"], tree["weights"]["a"])
    assert back["weights"]["count"].dtype == torch.float64 and back["weights"]["count"].shape == ()
    assert list(back["optimiser"]["state"]) == [0, 1]
    assert back["optimiser"]["lr"] == 1.0 / 3.0
    assert back["optimiser"]["betas"] == [0.9, 0.999]
    assert torch.equal(back["rng"], tree["rng"])
    assert back["flags"] == [True, None, "word", -5]
    assert back["empty"].shape == (0, 4)


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_a_torn_file_is_refused(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.npz"
    checkpoint.save(path, {"x": torch.randn(1000)})
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"a\.npz is no whole checkpoint"):
        checkpoint.load(path)


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    checkpoint.save(path, {"x": torch.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="no whole checkpoint"):
        checkpoint.load(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, **{"skeleton.json": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="no whole checkpoint"):
        checkpoint.load(path)


def test_what_cannot_be_stored_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"/agent/net of type Linear"):
        checkpoint.save(tmp_path / "a.npz", {"agent": {"net": torch.nn.Linear(1, 1)}})
    assert list(tmp_path.iterdir()) == []


def test_pruning_keeps_the_newest_and_the_round_ones(tmp_path: Path) -> None:
    for i in (50, 100, 150, 200, 250):
        checkpoint.save(checkpoint.numbered(tmp_path, i), {"i": i})
    checkpoint.save(tmp_path / "last_good.npz", {"i": -1})
    checkpoint.prune(tmp_path, keep=2, every=100)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["00000100.npz", "00000200.npz", "00000250.npz", "last_good.npz"]
    latest = checkpoint.latest(tmp_path)
    assert latest is not None and checkpoint.load(latest) == {"i": 250}


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "missing") is None
