"""A frozen ResNet from a file: the numbers of the usual modules with batch norms, and what is said of wrong files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robot_rl.learn.encoder import Config, Encoder
from robot_rl.learn.resnet import MEAN, STD, load_resnet, read_weights


class Block(nn.Module):
    """A residual block as checkpoints name its parts."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        short = self.downsample(x) if hasattr(self, "downsample") else x
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class Reference(nn.Module):
    """The whole network with its batch norms, and an ``fc`` that nobody wants."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        for stage in range(1, 5):
            first = Block(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            more = [Block(widths[stage], widths[stage], 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{stage}", nn.Sequential(first, *more))
        self.fc = nn.Linear(512, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return x


def reference(blocks: int) -> Reference:
    torch.manual_seed(0)
    net = Reference(blocks).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.2, 0.2)  # pyright: ignore[reportOptionalMemberAccess]
            module.running_var.uniform_(0.5, 2.0)  # pyright: ignore[reportOptionalMemberAccess]
    return net


def as_npz(net: nn.Module, path: Path) -> Path:
    np.savez(path, **{name: x.numpy() for name, x in net.state_dict().items()})
    return path


def as_safetensors(net: nn.Module, path: Path) -> Path:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, x in net.state_dict().items():
        data = x.numpy().tobytes()
        kind = {"float32": "F32", "int64": "I64"}[x.numpy().dtype.name]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@torch.no_grad()
def test_the_folded_network_gives_the_numbers_of_the_usual_one(tmp_path: Path) -> None:
    """ResNet-10 from .safetensors, two cameras at once; ResNet-18 from .npz."""
    shown = torch.rand(2, 6, 40, 40, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    net = reference(1)
    expected = torch.cat([net((part - mean) / std) for part in shown.split(3, 1)], 1)
    found = load_resnet(as_safetensors(net, tmp_path / "ten.safetensors"), 6)(shown - 0.5)
    assert found.shape == expected.shape == (2, 1024, 2, 2)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    net = reference(2)
    found = load_resnet(as_npz(net, tmp_path / "eighteen.npz"), 3)(shown[:1, :3] - 0.5)
    expected = net((shown[:1, :3] - mean) / std)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_frozen_encoder_never_learns(tmp_path: Path) -> None:
    path = as_npz(reference(1), tmp_path / "ten.npz")
    net = Encoder(Config(frozen=str(path), head="embeddings"), (32, 32, 3), generator=torch.Generator().manual_seed(0))
    before = {name: x.clone() for name, x in net.trunk.state_dict().items()}
    adam = torch.optim.Adam(net.parameters(), lr=0.1)
    shown = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8))
    first = net(shown).detach()
    for _ in range(3):
        net(shown).square().sum().backward()
        adam.step()
    assert not list(net.trunk.parameters()) and not torch.equal(net(shown), first), "head and bottleneck do learn"
    assert all(torch.equal(x, before[name]) for name, x in net.trunk.state_dict().items())


def test_a_wrong_file_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing.npz: there is no such file; expected a ResNet-10 or -18"):
        load_resnet(tmp_path / "missing.npz", 3)
    with pytest.raises(ValueError, match="pickled ones are not read"):
        read_weights(tmp_path / "net.pt")
    other = tmp_path / "other.npz"
    np.savez(other, **{"conv1.weight": np.zeros((64, 3, 3, 3), np.float32)})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"conv1.weight is \(64, 3, 3, 3\), expected \(64, 3, 7, 7\) \(60 of 60"):
        load_resnet(other, 3)
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(as_safetensors(reference(1), tmp_path / "ten.safetensors").read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"torn.safetensors: no whole .safetensors file: tensor fc.weight claims"):
        read_weights(torn)
    with pytest.raises(ValueError, match="sees red, green and blue; pictures have 4 colours"):
        load_resnet(other, 4)
