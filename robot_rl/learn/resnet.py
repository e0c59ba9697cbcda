"""A frozen residual network as an encoder's trunk, its weights read from a local file that is never unpickled.

ResNet-18, and ResNet-10 with one block a stage (He et al. 2016, arXiv 1512.03385), in the layout of ImageNet
checkpoints: ``conv1.weight`` (64, 3, 7, 7), ``bn1``, ``layer1.0.conv1`` to ``layer4.1.bn2`` and, where a stage begins
with a stride, ``layerN.0.downsample.0.weight`` and ``downsample.1``; a batch norm is ``weight, bias, running_mean,
running_var``, all (channels,). ``fc`` and ``num_batches_tracked`` are left aside. Such a file is what

    torchvision.models.resnet18(weights="IMAGENET1K_V1").state_dict()

holds, saved with ``safetensors.torch.save_file`` or ``numpy.savez``. Batch norms are folded into the convolutions
before them: what runs are convolutions, sums and ReLUs. (SERL's own ResNet-10 has group norms; its weights do not fit.)

Knows: names and shapes of weights, .npz and .safetensors files. Does not know: what is learnt on top.

Shapes: B batch · C colours, three for each camera · K channels.
"""

from __future__ import annotations

import json
import math
import struct
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

STAGES = (64, 128, 256, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pictures in [0, 1]."""
EPS = 1e-5
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "|u1",
    "BOOL": "|b1",
}


class ResNet(nn.Module):
    """Maps pictures less 0.5, (B, C, H, W) in [-0.5, 0.5], to (B, 512 cameras, H / 32, W / 32)."""

    def __init__(self, weights: dict[str, np.ndarray], blocks: int, colours: int) -> None:
        """Fold the batch norms; see ``load_resnet``, which checks names and shapes."""
        super().__init__()
        self.blocks, self.cameras = blocks, colours // 3
        for name, (conv, norm) in _layers(blocks).items():
            scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + EPS)
            kernel = weights[f"{conv}.weight"] * scale[:, None, None, None]
            bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
            for part, value in (("kernel", kernel), ("bias", bias)):
                tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
                self.register_buffer(f"{name}_{part}", tensor)
        for name, numbers in (("mean", np.array(MEAN) - 0.5), ("std", np.array(STD))):
            self.register_buffer(name, torch.tensor(numbers, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the last stage's channels, those of the cameras one after the other."""
        b, _, h, w = pictures.shape
        x = pictures.reshape(b * self.cameras, 3, h, w)  # the same weights see every camera
        x = (x - self.get_buffer("mean")) / self.get_buffer("std")
        x = max_pool2d(torch.relu(self._convolve("conv1", x, 2)), 3, 2, 1)
        for stage in range(1, 5):
            for block in range(self.blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                at = f"layer{stage}_{block}"
                short = self._convolve(f"{at}_short", x, stride) if stride == 2 else x
                x = torch.relu(self._convolve(f"{at}_1", x, stride))
                x = torch.relu(self._convolve(f"{at}_2", x, 1) + short)
        return x.reshape(b, -1, *x.shape[2:])

    def _convolve(self, name: str, x: Tensor, stride: int) -> Tensor:
        kernel: Tensor = self.get_buffer(f"{name}_kernel")
        return conv2d(x, kernel, self.get_buffer(f"{name}_bias"), stride, kernel.shape[-1] // 2)


def load_resnet(path: Path, colours: int) -> ResNet:
    """Return the network whose weights ``path`` holds.

    Args:
        path: .npz or .safetensors.
        colours: C, three for each camera.

    Raises:
        ValueError: The file is missing, torn or of another layout; what was expected is named.
    """
    if colours % 3:
        raise ValueError(f"a ResNet sees red, green and blue; pictures have {colours} colours")
    weights = read_weights(path)
    blocks = 2 if any(name.startswith("layer1.1.") for name in weights) else 1
    wanted = _shapes(blocks)
    wrong = {name: shape for name, shape in wanted.items() if name not in weights or weights[name].shape != shape}
    if wrong:
        name, shape = next(iter(wrong.items()))
        found = f"is {weights[name].shape}" if name in weights else "is missing"
        raise ValueError(
            f"{path} holds no ResNet-10 or -18 in ImageNet's layout: {name} {found}, expected {shape} "
            f"({len(wrong)} of {len(wanted)} tensors do not fit; the file has {sorted(weights)[:4]} …)"
        )
    return ResNet(weights, blocks, colours)


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a .npz or .safetensors file by name; bfloat16 becomes float32.

    Raises:
        ValueError: The file is missing, torn, or of another kind.
    """
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"weights {path}: the kinds of file are .npz and .safetensors; pickled ones are not read")
    if not path.is_file():
        raise ValueError(f"weights {path}: there is no such file; expected a ResNet-10 or -18, see learn/resnet.py")
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path.read_bytes())
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"weights {path}: no whole {path.suffix} file: {error}") from error


def _safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Read the format: the header's length, 8 bytes little-endian, a JSON header, then the tensors' bytes."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    tensors: dict[str, np.ndarray] = {}
    for name, about in header.items():
        if name == "__metadata__":
            continue
        begin, end = about["data_offsets"]
        if about["dtype"] not in _TYPES:
            raise ValueError(f"tensor {name} is {about['dtype']}; known are {sorted(_TYPES)}")
        kind, count = np.dtype(_TYPES[about["dtype"]]), math.prod(about["shape"])
        if not 0 <= begin <= end <= len(data) - 8 - size or end - begin != count * kind.itemsize:
            raise ValueError(f"tensor {name} claims bytes {begin} to {end} of {len(data) - 8 - size}")
        x = np.frombuffer(data, kind, count, 8 + size + begin).reshape(about["shape"])
        tensors[name] = (x.astype("<u4") << 16).view("<f4") if about["dtype"] == "BF16" else x
    return tensors


def _layers(blocks: int) -> dict[str, tuple[str, str]]:
    """Return convolution and batch norm in the file by our name of the folded one."""
    layers = {"conv1": ("conv1", "bn1")}
    for stage in range(1, 5):
        for block in range(blocks):
            ours, theirs = f"layer{stage}_{block}", f"layer{stage}.{block}"
            layers |= {f"{ours}_{i}": (f"{theirs}.conv{i}", f"{theirs}.bn{i}") for i in (1, 2)}
            if stage > 1 and block == 0:
                layers[f"{ours}_short"] = (f"{theirs}.downsample.0", f"{theirs}.downsample.1")
    return layers


def _shapes(blocks: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that is wanted of the file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for conv, norm in _layers(blocks).values():
        if conv == "conv1":
            kernel = (64, 3, 7, 7)
        else:
            stage, block = int(conv[5]), int(conv[7])
            out, before = STAGES[stage - 1], STAGES[max(stage - 2, 0)]
            first = block == 0 and not conv.endswith("conv2")
            size = 1 if "downsample" in conv else 3
            kernel = (out, before if first else out, size, size)
        shapes[f"{conv}.weight"] = kernel
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = kernel[:1]
    return shapes
