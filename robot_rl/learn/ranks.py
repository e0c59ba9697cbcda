"""Several processes that learn one policy, each in environments of its own; ``torchrun`` starts them.

Every rank makes the same update: gradients and what steers it are averaged, statistics are over the rows of all. What
worlds keep stays each rank's own: levels of the terrain, running maxima of constraints. Metrics are those of rank 0,
but for losses. One process alone is rank 0 of 1, for which nothing here changes a bit.

Knows: ``torch.distributed``, the variables that torchrun sets. Does not know: losses, environments, files.

Shapes: B rows of one rank · D columns.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE_S = 600.0
"""How long a rank waits for the others in one exchange."""
_SEED_STRIDE = 1_000_003
_TEXT_BYTES = 4096


class RankLostError(RuntimeError):
    """Another rank ended or no longer answers: this one cannot go on alone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of the processes this one is."""

    rank: int = 0
    """Of all machines together; 0 writes the files."""
    size: int = 1
    """How many there are."""
    here: int = 1
    """How many of them share this machine."""
    device: str = "cpu"
    """Where this rank learns: ``cpu`` or ``cuda:<number on this machine>``."""

    @property
    def first(self) -> bool:
        """Whether this rank writes metrics, policies and reports."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """Return this rank's own seed, for worlds and exploration; rank 0 keeps ``seed``."""
        return seed + _SEED_STRIDE * self.rank

    def threads(self, wanted: int) -> int:
        """Return how many threads the physics of this rank gets where 0 asks for one per CPU."""
        return wanted if wanted > 0 or self.here == 1 else max(1, (os.cpu_count() or 1) // self.here)

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors of any shapes by their means over the ranks, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([x.detach().reshape(-1) for x in tensors])
        self._exchange(lambda: dist.all_reduce(flat))
        flat /= self.size
        for x, mean in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
            x.detach().copy_(mean.view_as(x))

    def rows(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks, (size * B, ...), from as many of each, (B, ...)."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        self._exchange(lambda: dist.all_gather(parts, x.contiguous()))
        return torch.cat(parts)

    def agreed(self, value: float) -> float:
        """Return rank 0's value."""
        return value if self.size == 1 else float(self._from_first(torch.tensor(value, dtype=torch.float64)))

    def any(self, found: bool) -> bool:
        """Return whether it is so on at least one rank."""
        share = torch.tensor(float(found), device=self.device)
        self.mean_([share])
        return bool(share > 0.0)

    def agreed_text(self, text: str) -> str:
        """Return rank 0's text, which must not be long."""
        if self.size == 1:
            return text
        padded = bytearray(text.encode().ljust(_TEXT_BYTES, b"\0"))
        if len(padded) > _TEXT_BYTES:
            raise ValueError(f"the text to share has {len(padded)} bytes; at most {_TEXT_BYTES}")
        shared = self._from_first(torch.frombuffer(padded, dtype=torch.uint8))
        return shared.numpy().tobytes().rstrip(b"\0").decode()

    def check_equal(self, tensors: Sequence[Tensor]) -> None:
        """Raise RuntimeError where a tensor is not the same on every rank, bit for bit."""
        if self.size == 1:
            return
        flat = torch.cat([x.detach().reshape(-1).float() for x in tensors])
        others = self.rows(flat[None])
        if not bool((others == flat).all()):
            gap = float((others - flat).abs().max())
            raise RuntimeError(f"{self}: the ranks have drifted apart, by up to {gap:g}; the run cannot go on")

    def meet(self) -> None:
        """Wait until every rank is here."""
        self.agreed(0.0)

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size}"

    def _from_first(self, x: Tensor) -> Tensor:
        x = x.to(self.device)
        self._exchange(lambda: dist.broadcast(x, src=0))
        return x.cpu()

    def _exchange(self, talk: Callable[[], Any]) -> None:
        try:
            talk()
        except RuntimeError as error:
            raise RankLostError(
                f"{self}: another rank ended or no longer answers; all stop; go on with --resume ({error})"
            ) from error


ALONE = Ranks()
"""One process."""


@contextmanager
def joined(device: str = "cpu") -> Generator[Ranks]:
    """Join the processes that torchrun started; without torchrun, be alone.

    Args:
        device: ``cpu`` or ``cuda``; each rank takes the card of its number on this machine (``LOCAL_RANK``).

    Raises:
        ValueError: There is no such device.
    """
    size, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    place = _place(device, local)
    if size == 1:
        yield Ranks(device=place)
        return
    if place != "cpu":
        torch.cuda.set_device(local)
    # Default arguments in there take the group that exists when they load: loaded later, while learning, they keep it
    # alive past its end, with threads that can abort the interpreter's exit (pytorch issue 190489).
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("gloo" if place == "cpu" else "nccl", timeout=timedelta(seconds=PATIENCE_S))
    try:
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        yield Ranks(dist.get_rank(), dist.get_world_size(), here, place)
    finally:
        dist.destroy_process_group()


def _place(device: str, local: int) -> str:
    if device == "cpu":
        return device
    if device != "cuda":
        raise ValueError(f"no device {device!r}; the choices are ['cpu', 'cuda']")
    count = torch.cuda.device_count()
    if local >= count:
        raise ValueError(f"device 'cuda' for local rank {local}: this machine has {count} cards; use --device cpu")
    return f"cuda:{local}"
