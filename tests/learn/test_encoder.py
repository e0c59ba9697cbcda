"""The encoder: shifts against padding and cropping by hand, heads against sums in loops, gradients, determinism."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robot_rl.learn.encoder import HEADS, Config, Embeddings, Encoder, Keypoints, random_shift

SMALL = Config(channels=(4, 6), strides=(2, 2), features=5, embeddings=2)


def make(cfg: Config = SMALL, shape: tuple[int, int, int] = (16, 12, 6), seed: int = 0) -> Encoder:
    return Encoder(cfg, shape, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, shape: tuple[int, int, int] = (16, 12, 6), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


@pytest.mark.parametrize("most", [1, 4])
def test_a_shift_is_padding_by_the_rim_and_a_crop(most: int) -> None:
    shown = pictures(9, (7, 5, 3))
    moved = random_shift(shown, most, np.random.default_rng(3))
    at = np.random.default_rng(3).integers(0, 2 * most + 1, (2, 9))
    for i, picture in enumerate(shown):
        padded = np.pad(picture, ((most, most), (most, most), (0, 0)), mode="edge")
        y, x = at[:, i]
        assert np.array_equal(moved[i], padded[y : y + 7, x : x + 5])
    assert moved.dtype == np.uint8 and len({tuple(pair) for pair in at.T}) > 3


def test_a_shift_is_as_often_up_as_down_and_none_leaves_the_pictures() -> None:
    """The one bright pixel of 400 pictures in the middle of 9 x 9 lands on each of 3 x 3 places, 1/9 of them each."""
    shown = np.zeros((400, 9, 9, 1), np.uint8)
    shown[:, 4, 4] = 255
    mean = random_shift(shown, 1, np.random.default_rng(0)).mean(0)[3:6, 3:6, 0] / 255
    assert np.abs(mean - 1 / 9).max() < 0.06 and mean.sum() == pytest.approx(1.0)
    assert random_shift(shown, 0, np.random.default_rng(0)) is shown


@pytest.mark.parametrize("head", HEADS)
def test_features_are_bounded_seeded_and_move_with_the_picture(head: str) -> None:
    cfg = Config(channels=(4, 6), strides=(2, 2), features=5, embeddings=2, head=head)
    shown = torch.from_numpy(pictures(3))
    a, b = make(cfg)(shown), make(cfg)(shown)
    assert a.shape == (3, 5) and bool((a.abs() <= 1).all()) and torch.equal(a, b)
    assert not torch.equal(a, make(cfg, seed=1)(shown))
    assert not torch.allclose(a[0], a[1])
    net = make(cfg)
    net(shown).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_keypoints_are_where_a_channel_answers() -> None:
    """The brightest place of 3 x 5 is the upper right corner, then the middle; equal answers meet in the middle."""
    head, x = Keypoints(3, 5), torch.zeros(3, 1, 3, 5)
    x[0, 0, 0, 4], x[1, 0, 1, 2] = 100.0, 100.0
    found = head(x)
    assert found[:, 0].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=1e-6)
    assert found[:, 1].tolist() == pytest.approx([-1.0, 0.0, 0.0], abs=1e-6)
    assert found[:, 2].tolist() == pytest.approx([100 / 15, 100 / 15, 0.0])


def test_embeddings_are_weighted_sums_of_the_places() -> None:
    head = Embeddings(2, 2, 3, 2, torch.Generator().manual_seed(0))
    x = torch.randn(1, 2, 2, 3)
    by_hand = [
        sum(float(x[0, k, i, j] * head.kernel.detach()[k, i, j, e]) for i in range(2) for j in range(3))
        for k in range(2)
        for e in range(2)
    ]
    assert head(x)[0].detach().tolist() == pytest.approx(by_hand, abs=1e-6)


def test_the_encoder_learns_where_a_spot_is() -> None:
    """From pictures of 16 x 16 with one spot to its place, within a pixel after 300 small steps."""
    cfg = Config(channels=(8, 8), strides=(2, 2), features=16, head="keypoints")
    torch.manual_seed(0)
    net, out = make(cfg, (16, 16, 3)), torch.nn.Linear(16, 2)
    adam = torch.optim.Adam([*net.parameters(), *out.parameters()], lr=5e-3)
    rng, losses = np.random.default_rng(0), []
    for _ in range(300):
        at = rng.integers(1, 15, (32, 2))
        shown = np.full((32, 16, 16, 3), 30, np.uint8)
        shown[np.arange(32), at[:, 0], at[:, 1]] = 255
        loss = (out(net(torch.from_numpy(shown))) - torch.from_numpy(at / 8.0 - 1.0).float()).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < (1 / 8) ** 2, losses[-10:]


def test_what_makes_no_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="no head 'mean'; the choices are"):
        Config(head="mean")
    with pytest.raises(ValueError, match="one each"):
        Config(channels=(4,), strides=(2, 2))
    with pytest.raises(ValueError, match="shift are"):
        Config(shift=-1)
