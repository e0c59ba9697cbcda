"""Pictures per CPU second through the encoder, by size, and what the parts of learning from them cost.

CPU time of one thread, not wall time, so that a busy machine tells nearly the same as one at rest. The floor is the
trunk alone, without head, bottleneck and the way from uint8. With ``world`` the parts of a step of the recipe
``panda_lift_pixels`` are measured too: rendering, acting, drawing with shifts, an update.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from robot_rl import zoo
from robot_rl.learn.encoder import Config, Encoder, random_shift
from robot_rl.zoo.benchmarks._study import one_thread  # pyright: ignore[reportMissingImports]  # found by zoo

DRQ = Config(channels=(32, 32, 32, 32), strides=(2, 1, 1, 1))
"""The trunk of DrQ-v2, whose strides come too late for a CPU."""


def run(*, batch: int = 64, repeats: int = 4, size: int = 64, world: bool = False) -> dict[str, Any]:
    """Measure one thread.

    Args:
        batch: Pictures at once.
        repeats: Calls per number, the fastest of which counts.
        size: Height and width of the pictures that ``value`` is about.
        world: Also the parts of a step of ``panda_lift_pixels``; renders, which takes a GL.
    """
    with one_thread():
        sizes = sorted({size, 64, 84, 128})
        rates = {side: _rates(Config(), side, batch, repeats) for side in sizes}
        drq = _rates(DRQ, 64, max(1, batch // 4), 1)
        floor = _rates(Config(), size, batch, repeats, trunk=True)
        parts = _parts() if world else {}
    pictures = np.zeros((batch, size, size, 3), np.uint8)
    shift_s = _seconds(lambda: random_shift(pictures, 4, np.random.default_rng(0)), repeats)
    told = "; ".join(
        f"{side} x {side}: {both:.0f} both ways, {fore:.0f} forward" for side, (both, fore) in rates.items()
    )
    value = rates[size][0]
    return {
        "bench": "pixels",
        "value": round(value, 1),
        "unit": f"pictures/CPU s, {size} x {size}, forward and backward",
        "floor": round(floor[0], 1),
        "ratio": round(value / floor[0], 3),
        "p50_us": round(1e6 / value, 1),
        "p99_us": round(1e6 / value, 1),
        "setup": f"trunk {Config().channels}, strides {Config().strides}, batch {batch}, float32, one thread; {told}; "
        f"DrQ-v2's trunk at 64 x 64: {drq[0]:.0f} and {drq[1]:.0f}; shift {1e6 * shift_s / batch:.0f} us a picture"
        + "".join(f"; {name} {ms:.1f} ms" for name, ms in parts.items())
        + f"; load {os.getloadavg()[0]:.1f}",
    }


def _rates(cfg: Config, side: int, batch: int, repeats: int, *, trunk: bool = False) -> tuple[float, float]:
    """Return pictures per CPU second forward and backward, and forward alone."""
    net = Encoder(cfg, (side, side, 3), generator=torch.Generator().manual_seed(0))
    shown = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8))
    ready = shown.permute(0, 3, 1, 2).float()

    def learn() -> None:
        (net.trunk(ready) if trunk else net(shown)).square().mean().backward()

    @torch.no_grad()
    def look() -> None:
        net.trunk(ready) if trunk else net(shown)

    return batch / _seconds(learn, repeats), batch / _seconds(look, repeats)


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the CPU seconds of the fastest of some calls, after one that warms up."""
    taken: list[float] = []
    for _ in range(repeats + 1):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return max(min(taken[1:]), 1e-9)


def _parts() -> dict[str, float]:
    """Return the CPU milliseconds of a transition's rendering and acting, and of a block's drawing and update."""
    from robot_rl.data.pictures import side_by_side
    from robot_rl.learn import pixels
    from robot_rl.sim.demonstrations import demonstrate
    from robot_rl.sim.env import make_env

    recipe = zoo.load("policies", "recipes/panda_lift_pixels").recipe()
    env = make_env(zoo.load("sim", f"tasks/{recipe.task}").task(), num_envs=2, seed=0, threads=1)
    shown = demonstrate(env.task, "panda_lift", episodes=2, seed=0).pictures
    assert shown is not None, "the task has a camera"
    obs, cfg, rng = env.reset(), recipe.config, np.random.default_rng(0)
    seer = pixels.make_seer(
        cfg, obs_size=env.obs_sizes["policy"], num_actions=env.num_actions, shape=side_by_side(obs).shape[1:]
    )  # fmt: skip
    action = torch.zeros(env.num_envs, env.num_actions)
    calls: dict[str, tuple[Callable[[], object], int]] = {
        "step and picture": (lambda: env.step(action), env.num_envs),
        "act": (lambda: seer.act(obs["policy"], side_by_side(obs), explore=True), env.num_envs),
        "draw": (lambda: pixels.draw(shown, shown, cfg, rng), 1),
        "update": (lambda: pixels.update(seer, pixels.draw(shown, shown, cfg, rng), cfg), 1),
    }
    found = {name: 1e3 * _seconds(call, 4) / share for name, (call, share) in calls.items()}
    env.close()
    return found
