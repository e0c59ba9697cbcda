"""The link between policy and motors: targets that act some physics substeps late, exactly.

Where the backend keeps late targets by itself (``physics.Delaying``) a control period stays one call of ``step``; else
it is stepped in parts, one for every delay that occurs. Both give the same motion.

Knows: a backend, the delay of every copy. Does not know: tasks, actions, where delays come from.

Shapes: N environments · J joints.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from robot_rl.contract.state import JointTarget
from robot_rl.sim.physics import Delaying, Physics


class Link:
    """Delivers the targets of N copies; before the first one, and after a reset, the default pose is in force."""

    def __init__(self, physics: Physics, late: np.ndarray, decimation: int, *, positions: bool) -> None:
        """Tell the backend.

        Args:
            physics: What is driven.
            late: Substeps from sending to acting, int (N,), each in [0, decimation].
            decimation: Substeps of a control period.
            positions: Whether targets are positions alone; a backend delays nothing else by itself.
        """
        self.late = late
        self._physics, self._decimation, self._positions = physics, decimation, positions
        shape = physics.num_envs, len(physics.robot.joints)
        self._pos, self._effort = np.tile(physics.robot.default_pos, (shape[0], 1)), np.zeros(shape)
        self.arm()

    def arm(self) -> None:
        """Tell the backend its delays, again where another link drove it meanwhile."""
        self._parts = self._split()

    def drive(self, target: JointTarget) -> None:
        """Send a target and advance by one control period; late copies keep their old one until it arrives."""
        if not self._parts:
            self._physics.apply(target)
            self._physics.step(self._decimation)
            return
        for begin, end in self._parts:
            waits = (self.late > begin)[:, None]
            pos, effort = np.where(waits, self._pos, target.pos), np.where(waits, self._effort, target.effort_ff)
            self._physics.apply(dataclasses.replace(target, pos=pos, effort_ff=effort))
            self._physics.step(end - begin)
        self._pos[:], self._effort[:] = target.pos, target.effort_ff

    def restart(self, ids: np.ndarray) -> None:
        """Forget what was sent to ``ids``."""
        self._pos[ids], self._effort[ids] = self._physics.robot.default_pos, 0.0

    def snapshot(self) -> dict[str, Any]:
        """Return the state as a tree for ``checkpoint.save``."""
        return {"late": self.late.copy(), "pos": self._pos.copy(), "effort": self._effort.copy()}

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` returned."""
        self.late, self._pos, self._effort = (np.array(snapshot[name]) for name in ("late", "pos", "effort"))
        self.arm()

    def _split(self) -> list[tuple[int, int]]:
        """Return the parts of a period, (begin, end) in substeps, at whose ends late targets arrive; none if none."""
        k, late = self._decimation, self.late
        if isinstance(self._physics, Delaying):
            able = self._positions and int(late.max()) <= self._physics.max_delay
            self._physics.delay(np.arange(len(late)), late if able else np.zeros_like(late))
            if able:
                return []
        return [] if not late.any() else list(itertools.pairwise(sorted({0, k, *late[late < k].tolist()})))
