"""A policy file, proven on this machine and ready to run: one call per tick, no allocation but its answer.

Loading is the whole customs inspection: file and metadata whole, weights unaltered, contract fits the live robot,
golden vectors reproduced by this very onnxruntime, fast enough to be useful. What fails is refused with the reason.

Where it has a memory it keeps one of its own, of the robot that it drives, and goes on from call to call until it is
told to forget; who runs it in several copies gives each its own.

Knows: onnxruntime. Does not know: modes, the shield, when it is called.

Shapes: D observation · F features of gSDE · A action · W memory, 0 without.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from robot_rl.contract.box import Box, box_of
from robot_rl.contract.check import check_robot, refuse
from robot_rl.contract.exploration import EXPLORATION, Exploration
from robot_rl.contract.golden import INPUT, OUTPUT, Bundle, read_bundle, replay_golden
from robot_rl.contract.memory import Memory
from robot_rl.contract.spec import Contract
from robot_rl.hardware.robot import Robot

WARM_UP_CALLS = 100
WARM_UP_S = 0.5
"""Longest warm-up; a network that needs longer is too slow for any rate we run at, and its median says so."""
SATURATED_AT = 0.99
"""A raw action beyond this fraction of its bound counts as saturated."""


class Policy:
    """One loaded policy. Built by ``load``; one thread at a time may call ``infer``."""

    def __init__(self, bundle: Bundle, model: bytes) -> None:
        """Prepare to run ``model``, the bytes of ``bundle.path``; nothing is checked here."""
        contract = bundle.contract
        self.bundle = bundle
        self.contract: Contract = contract
        self.box: Box | None = box_of(contract)
        """The actions that its learner assumed; None where it told none."""
        self.path: Path = bundle.path
        self.fingerprint = int(bundle.file_sha256[:16], 16)
        """First 8 bytes of the file's SHA-256, as rows carry it."""
        self.infer_s = float("nan")
        """Median time of one call, measured while warming up [s]."""
        self._session = make_session(model)
        self._obs = np.zeros((1, contract.obs_size), np.float32)
        self._action = np.zeros((1, contract.num_actions), np.float32)
        self._binding = bind(self._session, self._obs, self._action)
        self.exploration: Exploration | None = bundle.exploration
        """How it explores; None where it was trained without gSDE."""
        self._pictures = {term.group: np.zeros((1, *term.shape), np.uint8) for term in contract.images}
        for name, picture in self._pictures.items():
            self._binding.bind_input(name, "cpu", 0, np.uint8, picture.shape, picture.ctypes.data)
        self._xi = np.zeros((0, 0) if self.exploration is None else self.exploration.shape, np.float32)
        self._explored = False  # whether ``_xi`` holds anything but zeros
        if self._xi.size:
            self._binding.bind_input(EXPLORATION, "cpu", 0, np.float32, self._xi.shape, self._xi.ctypes.data)
        self.memory: Memory | None = bundle.memory
        """What it remembers; None where it sees the observation alone."""
        width = 0 if self.memory is None else self.memory.width
        self.recalled = np.zeros(width, np.float32)
        """What it remembered before the newest call, (W,); overwritten by the next one."""
        self._after, self._own = np.zeros((2, width), np.float32)
        if self.memory is not None:
            bind_memory(self._binding, self.memory, self.recalled, self._after)

    @classmethod
    def load(cls, path: Path | str, robot: Robot) -> Policy:
        """Read, check, replay and warm up the policy in ``path`` for ``robot``.

        Raises:
            ValueError: The exact reason why this policy must not drive this robot.
            FileNotFoundError: There is no such file.
        """
        bundle = read_bundle(Path(path))
        _check_supported(bundle)
        refuse(check_robot(bundle.contract, robot), str(bundle.path))
        model = bundle.path.read_bytes()
        if hashlib.sha256(model).hexdigest() != bundle.file_sha256:
            raise ValueError(f"{bundle.path} changed while it was read")
        try:
            policy = cls(bundle, model)
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise ValueError(f"{bundle.path}: onnxruntime {ort.__version__} refuses the network: {error}") from error
        policy.prove()
        policy._warm_up()
        return policy

    def prove(self) -> None:
        """Replay the golden vectors, and forget.

        Raises:
            ValueError: An action differs; step and joint are named.
        """
        replay_golden(self.bundle, lambda obs, xi=None, **more: self.infer(obs[0], xi, **more), forget=self.forget)
        self.forget()

    def infer(
        self, obs: np.ndarray, xi: np.ndarray | None = None, *, memory: np.ndarray | None = None,
        pictures: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Map an observation, shape (D,) float32, to a raw action in a new array, shape (A,) float32.

        Args:
            obs: The observation.
            xi: Explore with this noise matrix, (F, A), see ``contract.exploration.draw``; None is the mean. Only where
                ``exploration`` is not None.
            memory: Recall this instead of its own memory, (W,) float32, and leave there what it remembers after.
            pictures: By ``ImageTerm.group``, uint8 (1, H, W, 3); what is not given stays what it was, at first black.
        """
        self._obs[0] = obs
        for name, picture in (pictures or {}).items():
            self._pictures[name][...] = picture
        if xi is not None or self._explored:
            self._xi[...] = 0.0 if xi is None else xi
            self._explored = xi is not None
        if self.memory is None:
            self._session.run_with_iobinding(self._binding)
            return self._action[0].copy()
        kept = self._own if memory is None else memory
        self.recalled[:] = kept
        self._session.run_with_iobinding(self._binding)
        kept[:] = self._after
        return self._action[0].copy()

    def forget(self) -> None:
        """Empty its own memory; where a robot begins anew."""
        self._own[:] = 0.0

    @property
    def saturation(self) -> float:
        """Share of golden actions at their bound; a healthy policy steers within its bounds."""
        return saturation(self.bundle.golden.actions, self.contract)

    def _warm_up(self) -> None:
        """Run until caches are warm, and measure."""
        obs = self.bundle.golden.obs[0].astype(np.float32)
        times: list[float] = []
        while len(times) < WARM_UP_CALLS and sum(times) < WARM_UP_S:
            begin = time.perf_counter()
            self.infer(obs)
            times.append(time.perf_counter() - begin)
        self.infer_s = float(np.median(times))
        self.forget()


def saturation(actions: np.ndarray, contract: Contract) -> float:
    """Return the share of elements of ``actions``, (..., A), that stand at the contract's action bounds."""
    low, high = contract.action.clip
    middle, half = (low + high) / 2, (high - low) / 2
    return float(np.mean(np.abs(actions - middle) >= SATURATED_AT * half))


def make_session(model: bytes) -> ort.InferenceSession:
    """Open a session for one small network: one thread, no spinning, silent."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def bind(session: ort.InferenceSession, obs: np.ndarray, action: np.ndarray) -> ort.IOBinding:
    """Bind a session's input and output to two arrays, which must outlive the binding: half the time of a call."""
    binding = session.io_binding()
    binding.bind_input(INPUT, "cpu", 0, np.float32, obs.shape, obs.ctypes.data)
    binding.bind_output(OUTPUT, "cpu", 0, np.float32, action.shape, action.ctypes.data)
    return binding


def bind_memory(binding: ort.IOBinding, memory: Memory, before: np.ndarray, after: np.ndarray) -> None:
    """Bind the memory's inputs and outputs to two vectors, (W,) float32, which must outlive the binding."""
    for names, take, vector in (
        (memory.inputs, binding.bind_input, before),
        (memory.outputs, binding.bind_output, after),
    ):
        for name, part in zip(names, np.split(vector, len(names)), strict=True):
            take(name, "cpu", 0, np.float32, memory.shape, part.ctypes.data)


def _check_supported(bundle: Bundle) -> None:
    """Refuse what this runtime cannot run yet, rather than run it wrongly."""
    contract = bundle.contract
    for name, value in (("chunk", contract.chunk - 1), ("latent", contract.latent)):
        if value:
            raise ValueError(f"{bundle.path}: the contract has {name}={getattr(contract, name)}; this runtime has none")
