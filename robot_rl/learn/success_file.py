"""A classifier of success becomes an ``.onnx`` file with a contract of its own, for ``contract.judge`` to read.

Knows: the graph, the metadata, what must hold before the file is written. Does not know: training (``success``).
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robot_rl.contract.judge import (
    INPUT,
    KEY_EXAMPLES,
    KEY_JUDGE,
    OUTPUT,
    STATE,
    Judge,
    JudgeSpec,
    examples_to_json,
)
from robot_rl.contract.model_file import with_metadata
from robot_rl.data.atomic import replacing
from robot_rl.data.labels import Labelled
from robot_rl.learn.graph import OPSET
from robot_rl.learn.success import Classifier, Network

EXAMPLES = 4


class _Calibrated(nn.Module):
    def __init__(self, network: Network, temperature: float, offset: float) -> None:
        super().__init__()
        self.network, self.temperature, self.offset = network, temperature, offset

    def forward(self, seen: Tensor) -> Tensor:
        return torch.sigmoid(self.network(seen) / self.temperature + self.offset)


def export_judge(found: Classifier, data: Labelled, path: Path) -> Judge:
    """Write the classifier to ``path`` in one piece and return it as a robot will read it.

    Args:
        found: What was learnt.
        data: What it was learnt from; says what it looks at, and gives the examples.
        path: The ``.onnx`` file; its folder is made.

    Raises:
        ValueError: onnxruntime does not answer as torch does; nothing is written.
    """
    report = found.report
    spec = JudgeSpec(
        source=data.source if data.source.startswith("pixels/") else STATE, shape=data.inputs.shape[1:],
        threshold=found.threshold, temperature=found.temperature, precision=report.precision, recall=report.recall,
        calibration_error=report.calibration_error, held_out=report.held_out, task=data.task, contract=data.contract,
    )  # fmt: skip
    per_kind = EXAMPLES // 2
    shown = np.concatenate([np.flatnonzero(data.success)[:per_kind], np.flatnonzero(~data.success)[:per_kind]])
    seen = data.inputs[shown]
    metadata = {
        KEY_JUDGE: spec.to_json(), KEY_EXAMPLES: examples_to_json(seen, found(seen)),
    }  # fmt: skip
    graph = with_metadata(_graph(_Calibrated(found.network, found.temperature, found.offset), seen), metadata)
    with replacing(path) as hidden:
        hidden.write_bytes(graph)
        Judge(hidden)  # answers its examples, or raises
    return Judge(path)


def _graph(module: nn.Module, seen: np.ndarray) -> bytes:
    module.eval()
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by torch.export takes ten times as long and logs what it skips; both give the same nodes.
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.from_numpy(seen[:2]),),
            buffer,  # pyright: ignore[reportArgumentType]
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "n"}, OUTPUT: {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()
