"""A judge of success: an ``.onnx`` file that tells from a picture or an observation whether the task is solved.

It has a contract of its own: what it looks at, from which probability on it says yes, and how often it was right on
data that it never saw. It carries inputs with their answers, and whoever loads it asks for those first. onnxruntime
alone reads it, so that it runs on a robot, beside the policy (how it is trained: ``learn.success``).

Knows: the metadata of such a file. Does not know: cameras, rewards, who asks.

Shapes: n inputs · H height · W width · D observation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from robot_rl.contract.model_file import read_model_file

KEY_JUDGE = "robot_rl.judge"
KEY_EXAMPLES = "robot_rl.judge.examples"
INPUT, OUTPUT = "seen", "probability"
EXACT = 1e-4
"""Largest difference between a probability and the one that the file's examples tell."""
STATE = "policy"
"""What a judge of observations looks at; one of pictures looks at ``pixels/<camera>``."""


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """What a judge looks at, and how good it is."""

    source: str
    """Group of observations: ``policy``, or ``pixels/<camera>``."""
    shape: tuple[int, ...]
    """Of one input: (D,) float32, or (H, W, 3) uint8."""
    threshold: float
    """It says yes from this probability on."""
    temperature: float
    """What logits were divided by, so that probabilities are honest; already in the graph."""
    precision: float
    """Share of its yeses that were right, on data held out."""
    recall: float
    """Share of successes that it saw, on data held out."""
    calibration_error: float
    """Expected calibration error on data held out."""
    held_out: int
    """Inputs that the three numbers are of."""
    task: str = ""
    contract: str = ""
    """Fingerprint of the contract whose observations it reads, or was shown pictures under; empty where unknown."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"judge: threshold is {self.threshold}; it must lie strictly between 0 and 1")
        if len(self.shape) != (1 if self.source == STATE else 3):
            raise ValueError(f"judge: source {self.source!r} does not have the shape {self.shape}")

    @property
    def dtype(self) -> type[np.generic]:
        """Of its input."""
        return np.float32 if self.source == STATE else np.uint8

    def to_json(self) -> str:
        """Return it as JSON, numbers in full."""
        return json.dumps(asdict(self), sort_keys=True)


class Judge:
    """A judge that is ready; call it with inputs (n, ...) for probabilities (n,)."""

    def __init__(self, path: Path) -> None:
        """Load ``path`` and let it answer its examples.

        Raises:
            ValueError: The file is torn, no judge, or answers otherwise here than where it was made.
            FileNotFoundError: There is no such file.
        """
        model = read_model_file(path)
        missing = {KEY_JUDGE, KEY_EXAMPLES} - model.metadata.keys()
        if missing:
            raise ValueError(f"{path} is no judge of success: it lacks the metadata {sorted(missing)}")
        self.path, self.sha256 = path, model.file_sha256
        self.spec = _spec(model.metadata[KEY_JUDGE], path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        seen, expected = examples_from_json(model.metadata[KEY_EXAMPLES], self.spec)
        error = float(np.abs(self(seen) - expected).max())
        if not error <= EXACT:
            raise ValueError(f"{path} answers its examples {error:.3g} away from what it did where it was made")

    def __call__(self, seen: np.ndarray) -> np.ndarray:
        """Return the probability of success, float32 (n,).

        Args:
            seen: (n, D) numbers, or (n, H, W, 3) uint8.

        Raises:
            ValueError: The inputs have another shape, or pictures another type.
        """
        spec = self.spec
        if seen.shape[1:] != spec.shape or (spec.dtype is np.uint8 and seen.dtype != np.uint8):
            raise ValueError(
                f"judge {self.path} looks at {spec.source!r}, {spec.dtype.__name__} {spec.shape}; it was shown "
                f"{seen.dtype} {seen.shape[1:]}"
            )
        return np.asarray(self._session.run([OUTPUT], {INPUT: seen.astype(spec.dtype, copy=False)})[0])

    def success(self, seen: np.ndarray) -> np.ndarray:
        """Return whether each input (n, ...) shows success, bool (n,)."""
        return self(seen) >= self.spec.threshold


def examples_to_json(seen: np.ndarray, probability: np.ndarray) -> str:
    """Return inputs (n, ...) and their probabilities (n,) as metadata, exactly."""
    parts = {"seen": np.ascontiguousarray(seen), "probability": probability.astype("<f4")}
    return json.dumps({name: base64.b64encode(x.tobytes()).decode() for name, x in parts.items()})


def examples_from_json(text: str, spec: JudgeSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``examples_to_json`` was given.

    Raises:
        ValueError: It is no such text.
    """
    try:
        parts = {name: base64.b64decode(x) for name, x in json.loads(text).items()}
        seen = np.frombuffer(parts["seen"], spec.dtype).reshape(-1, *spec.shape)
        probability = np.frombuffer(parts["probability"], "<f4")
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"the examples of a judge are no inputs with probabilities: {error!r}") from error
    if len(seen) != len(probability) or not len(seen):
        raise ValueError(f"a judge has {len(seen)} examples and {len(probability)} answers")
    return seen, probability


def _spec(text: str, path: Path) -> JudgeSpec:
    about: Mapping[str, Any] = json.loads(text)
    names = {f.name for f in fields(JudgeSpec)}
    if not isinstance(about, dict) or set(about) != names:
        raise ValueError(f"{path}: the contract of a judge has the fields {sorted(names)}, not {sorted(about)}")
    values: dict[str, Any] = {**about, "shape": tuple(about["shape"])}
    return JudgeSpec(**values)
