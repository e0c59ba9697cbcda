"""A policy that sees as an ONNX graph: ``obs`` (1, D) and one input of uint8 (1, H, W, 3) for each camera.

Knows: names and shapes of the inputs, how to run the graph. Does not know: contracts beyond their cameras, training.

Shapes: D numbers · A action · H, W picture.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from robot_rl.contract.golden import INPUT, OUTPUT
from robot_rl.contract.model_file import with_metadata
from robot_rl.contract.sight import golden_pictures
from robot_rl.contract.spec import ImageTerm
from robot_rl.learn.graph import OPSET
from robot_rl.learn.pixels import Policy

Pictures = Mapping[str, NDArray[np.uint8]]
"""By ``ImageTerm.group``, (n, H, W, 3)."""


class Seeing(Protocol):
    """Maps observations (n, D) and their pictures to actions (n, A)."""

    def __call__(self, obs: NDArray[Any], xi: NDArray[Any] | None = None, *, pictures: Pictures) -> NDArray[Any]:
        """Return the deterministic actions; there is no noise ``xi`` to take."""
        ...


def seeing_graph(policy: Policy, obs_size: int, images: Sequence[ImageTerm]) -> bytes:
    """Return the ONNX model, weights inside.

    Raises:
        ValueError: The cameras show something else than the policy was built for.
    """
    height, width, colours = policy.encoder.shape
    if [term.shape for term in images] != [(height, width, 3)] * (colours // 3):
        raise ValueError(
            f"the policy sees {colours // 3} pictures of {width} x {height}; the contract has "
            f"{[f'{t.name} {t.width} x {t.height}' for t in images]}"
        )
    example = (torch.zeros(1, obs_size), *(torch.zeros(1, *term.shape, dtype=torch.uint8) for term in images))
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        torch.onnx.export(
            policy, example, buffer,  # pyright: ignore[reportArgumentType]
            input_names=[INPUT, *(term.group for term in images)], output_names=[OUTPUT], opset_version=OPSET,
            dynamo=False,
        )  # fmt: skip
    return with_metadata(buffer.getvalue(), {})


def seen_with(images: Sequence[ImageTerm], steps: int, recorded: Pictures | None) -> Pictures | None:
    """Return the pictures of so many golden steps and then the recorded ones; None where there are no cameras."""
    if not images:
        return None
    golden = [golden_pictures(images, step) for step in range(steps)]
    more = {} if recorded is None else {term.group: [recorded[term.group]] for term in images}
    return {t.group: np.concatenate([*(shown[t.group] for shown in golden), *more.get(t.group, [])]) for t in images}


def torch_seeing(policy: Policy, images: Sequence[ImageTerm]) -> Seeing:
    """Return the policy as torch computes it."""

    @torch.no_grad()
    def forward(obs: NDArray[Any], xi: NDArray[Any] | None = None, *, pictures: Pictures) -> NDArray[Any]:
        assert xi is None, "a policy that sees explores without a matrix"
        shown = [torch.from_numpy(np.array(pictures[term.group])) for term in images]
        return policy(torch.from_numpy(np.array(obs, np.float32)), *shown).numpy()

    return forward


def session_seeing(session: onnxruntime.InferenceSession, images: Sequence[ImageTerm]) -> Seeing:
    """Return the policy as onnxruntime computes it, one row at a time."""

    def infer(obs: NDArray[Any], xi: NDArray[Any] | None = None, *, pictures: Pictures) -> NDArray[Any]:
        assert xi is None, "a policy that sees explores without a matrix"
        rows = [
            session.run([OUTPUT], {INPUT: row[None]} | {t.group: pictures[t.group][i : i + 1] for t in images})[0]
            for i, row in enumerate(np.asarray(obs, np.float32))
        ]
        return np.concatenate([np.asarray(row) for row in rows])

    return infer
