"""Named settings of the RLPD family: SAC, REDQ, DroQ and RLPD with the numbers of their papers.

SAC: Haarnoja et al. 2018, arXiv 1812.05905, table 1. REDQ: Chen et al. 2021, arXiv 2101.05982, appendix B. DroQ:
Hiraoka et al. 2022, arXiv 2110.02034, appendix. RLPD: Ball et al. 2023, arXiv 2302.02948, table 1.

Knows: numbers and their sources. Does not know: losses.
"""

from __future__ import annotations

from dataclasses import replace

from robot_rl.learn.rlpd import Config

SAC = Config(critics=2, subset=2, layer_norm=False, utd=1, actor_reduce="min", start_steps=10_000)
"""Target entropy -A, see ``preset``."""
REDQ = Config(critics=10, subset=2, layer_norm=False, utd=20, actor_reduce="mean", start_steps=5_000)
DROQ = Config(critics=2, subset=2, layer_norm=True, dropout=0.01, utd=20, actor_reduce="mean", start_steps=5_000)
RLPD = Config(critics=10, subset=2, layer_norm=True, utd=20, actor_reduce="mean", start_steps=5_000)
"""For locomotion; sparse tasks of the paper take ``backup_entropy=False`` and three hidden layers."""

METHODS = {"sac": SAC, "redq": REDQ, "droq": DROQ, "rlpd": RLPD}

TARGET_ENTROPY = {"Hopper": -1.0, "HalfCheetah": -3.0, "Walker2d": -3.0, "Ant": -4.0, "Humanoid": -2.0}
"""Of REDQ and DroQ by task, after MBPO (Janner et al. 2019, arXiv 1906.08253); on other tasks -A/2, as RLPD's."""
DROPOUT = {"Hopper": 1e-4, "Walker2d": 0.005, "Ant": 0.01, "Humanoid": 0.1}
"""Of DroQ by task; 0.01 elsewhere, as in the authors' second code base."""


def preset(method: str, *, num_actions: int, task: str = "") -> Config:
    """Return a method's settings as its paper has them.

    Args:
        method: A key of ``METHODS``.
        num_actions: A.
        task: Name of a public task such as ``Hopper-v5``; what comes after the first dash does not count.

    Raises:
        ValueError: There is no such method.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r}; the choices are {tuple(METHODS)}")
    body = task.partition("-")[0]
    if method == "sac":
        return replace(SAC, target_entropy=-float(num_actions))
    if method == "rlpd":
        return RLPD
    cfg = replace(METHODS[method], target_entropy=TARGET_ENTROPY.get(body))
    return replace(cfg, dropout=DROPOUT.get(body, DROQ.dropout)) if method == "droq" else cfg
