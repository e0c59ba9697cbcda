"""N copies of a MuJoCo model in MuJoCo Warp: torch views of its arrays, and one CUDA graph per number of substeps.

On ``cpu`` the kernels are launched one by one. On ``cuda`` all work is put on torch's current stream, so that it is in
order with what torch does to the same memory. That part has not been run: no GPU was at hand.

Knows: Warp, MuJoCo Warp, which package brings them. Does not know: robots, states, targets.

Shapes: N copies.
"""

# MuJoCo Warp comes with the extra `gpu` only.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import mujoco
import torch
from torch import Tensor

from robot_rl.sim.capacity import Capacity

CURE = "pip install 'robot-rl[gpu]'"
CHECK_EVERY = 64
"""Steps between looks at the overflow flags on ``cuda``, since each look waits for the device."""


class WarpBatch:
    """N copies of one model; the model's fields named at construction are each copy's own."""

    def __init__(
        self, model: mujoco.MjModel, num_copies: int, *, own: Iterable[str], capacity: Capacity, device: torch.device
    ) -> None:
        """Put the model on the device.

        Args:
            model: What is simulated.
            num_copies: N.
            own: Fields of the model that copies do not share, which can be varied; (N, ...) by ``field``.
            capacity: Buffers per copy.
            device: Where.

        Raises:
            ImportError: MuJoCo Warp is not installed; the cure is named.
            ValueError: MuJoCo Warp does not know something in the model.
        """
        self._wp, self._mjw = import_engine()
        self.device, self.capacity = device, capacity
        self._warp_device = self._wp.get_device(str(device))
        with self._wp.ScopedDevice(self._warp_device):
            try:
                self._model = self._mjw.put_model(model, batch_sizes=dict.fromkeys(own, num_copies))
            except (NotImplementedError, ValueError) as error:
                raise ValueError(f"MuJoCo Warp cannot simulate this model: {error}") from error
            self._model.opt.warn_overflow = 0  # the kernels would print; ``step`` raises
            self._data = self._mjw.make_data(
                model, nworld=num_copies, nconmax=capacity.contacts, njmax=capacity.constraints
            )
        kinds = self._mjw.OverflowType
        bits = kinds.NEFC | kinds.NJMAX_NNZ | kinds.BROADPHASE | kinds.NARROWPHASE | kinds.CCD | kinds.HFIELD
        self._too_small, self._overflow = int(bits), self.data("overflow")
        self._graphs: dict[int, Any] = {}
        self._steps = 0

    def data(self, name: str) -> Tensor:
        """Return a view of an array of ``mjData``, (N, ...)."""
        return self._wp.to_torch(getattr(self._data, name))

    def field(self, name: str) -> Tensor:
        """Return a view of an array of ``mjModel``, (N, ...) where copies have their own."""
        return self._wp.to_torch(getattr(self._model, name))

    def step(self, substeps: int) -> None:
        """Advance all copies.

        Raises:
            RuntimeError: A copy had more contacts or constraints than its buffers hold; on ``cuda`` this is looked at
                every ``CHECK_EVERY`` calls.
        """
        if substeps < 1:
            return
        if self.device.type == "cuda":
            graph = self._graphs.get(substeps) or self._capture(substeps)
            self._wp.capture_launch(graph, stream=self._stream())
        else:
            self._in_order(lambda: self._advance(substeps))
        self._steps += 1
        if self.device.type == "cpu" or self._steps % CHECK_EVERY == 0:
            self.check_capacity()

    def forward(self) -> None:
        """Derive everything from the positions and velocities of all copies, without advancing."""
        self._in_order(lambda: self._mjw.forward(self._model, self._data))

    def set_const(self) -> None:
        """Derive what follows from changed masses, inertias and centres of mass."""
        self._in_order(lambda: self._mjw.set_const(self._model, self._data))

    def check_capacity(self) -> None:
        """Raise RuntimeError where a copy had more contacts or constraints than its buffers hold; waits for a GPU."""
        full = (self._overflow & self._too_small) != 0
        if bool(full.any()):
            raise RuntimeError(
                f"{int(full.sum())} of {len(full)} copies made more contacts or constraints than the buffers hold "
                f"({self.capacity.contacts} contacts, {self.capacity.constraints} constraint rows a copy), so that "
                "forces were dropped; build the backend with a larger capacity=Capacity(contacts, constraints)"
            )

    def close(self) -> None:
        """Free the graphs."""
        self._graphs.clear()

    # -- details --

    def _advance(self, substeps: int) -> None:
        for _ in range(substeps):
            self._mjw.step(self._model, self._data)

    def _capture(self, substeps: int) -> Any:
        """Record ``substeps`` as a CUDA graph; one step before it, undone, compiles and loads the kernels."""
        moved = [self.data(name) for name in ("time", "qpos", "qvel", "qacc_warmstart", "overflow")]
        kept = [x.clone() for x in moved]
        torch.cuda.synchronize(self.device)
        with self._wp.ScopedDevice(self._warp_device):
            self._advance(1)
            with self._wp.ScopedCapture(device=self._warp_device) as capture:
                self._advance(substeps)
            self._wp.synchronize_device(self._warp_device)
        for x, old in zip(moved, kept, strict=True):
            x.copy_(old)
        self._graphs[substeps] = capture.graph
        return capture.graph

    def _in_order(self, work: Callable[[], None]) -> None:
        """Do Warp's work on torch's current stream."""
        stream = self._stream()
        with self._wp.ScopedDevice(self._warp_device):
            if stream is None:
                work()
            else:
                with self._wp.ScopedStream(stream):
                    work()

    def _stream(self) -> Any:
        if self.device.type != "cuda":
            return None
        return self._wp.stream_from_torch(torch.cuda.current_stream(self.device))


def import_engine() -> tuple[Any, Any]:
    """Import and return Warp and MuJoCo Warp.

    Kernels are compiled without their gradients, which nobody asks for here: that halves the time. The setting holds
    for the whole process.

    Raises:
        ImportError: They are not installed; the cure is named.
    """
    try:
        import warp as wp

        wp.config.enable_backward = False
        wp.config.log_level = max(wp.config.log_level, logging.WARNING)
        import mujoco_warp as mjw
    except ModuleNotFoundError as error:
        raise ImportError(f"physics 'mujoco_gpu' needs MuJoCo Warp, which is not installed here: {CURE}") from error
    wp.init()
    return wp, mjw


def find_device(name: str) -> torch.device:
    """Return the device called ``name``, by default the GPU where there is one, else the CPU.

    Raises:
        ValueError: There is no such device; those that exist are listed.
    """
    there = [*(f"cuda:{i}" for i in range(torch.cuda.device_count())), "cpu"]
    wanted = {"": there[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in there:
        raise ValueError(f"no device {name!r} here; the choices are {there}")
    return torch.device(wanted)
