"""A ``Physics`` and a ``Task`` composed into N environments that reset themselves, in NumPy.

The order of a step: act, push, advance the physics, measure, reward, end, observe the true successor, reset what
ended, observe again.

Knows: the contract's observer and action map, events, terms. Does not know: torch, learners, policies.

Shapes: N environments · D observation · A action · F feet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from robot_rl.contract.path import ActionPath
from robot_rl.contract.spec import Contract
from robot_rl.contract.state import RobotState
from robot_rl.sim.cat import Cat
from robot_rl.sim.curriculum import Course
from robot_rl.sim.events import CommandSource, Pusher, check_events, initial_state, randomize
from robot_rl.sim.link import Link
from robot_rl.sim.noise import NoisyObserver
from robot_rl.sim.physics import Physics, Restorable, open_views
from robot_rl.sim.task import Outcome, Task


class WorldStep(NamedTuple):
    """One control step of N environments; ``robot_rl.learn.env.Step`` in NumPy, with the outcome it was made of."""

    obs: dict[str, np.ndarray]
    """Act on this next; already reset where an episode ended, each (N, D_group) float32; of each camera that the
    contract names also a group ``pixels/<name>``, (N, H, W, 3) uint8."""
    reward: np.ndarray
    """(N,) float32."""
    terminated: np.ndarray
    """Probability in [0, 1], (N,) float32; 1 resets."""
    truncated: np.ndarray
    """The clock alone, (N,) bool."""
    next_obs: dict[str, np.ndarray]
    """The true successor, before any reset, each (N, D_group) float32."""
    log: dict[str, float]
    """Means over the episodes that ended in this step; with constraints also the rates of this step."""
    outcome: Outcome
    """States before and after, neither of them reset."""


class World:
    """N environments; see the module's docstring for the order of a step."""

    def __init__(
        self, task: Task, physics: Physics, *, seed: int | Sequence[int], contract: Contract | None = None
    ) -> None:
        """Randomise the copies once; call ``reset`` before the first ``step``.

        Args:
            task: What is seen, rewarded, ended and disturbed.
            physics: N copies of the task's robot.
            seed: Of everything that is drawn.
            contract: What observes and acts; the task's own by default, a released policy's for its evaluation.

        Raises:
            ValueError: The task names an unknown event, or its rates do not fit the physics or the contract.
        """
        check_events(task)
        _check_rates(task, physics, contract)
        self.task, self.physics, self.robot = task, physics, physics.robot
        self.contract = contract or task.contract(self.robot)
        self.num_envs, self.num_actions = physics.num_envs, self.contract.num_actions
        self.dt_s = 1.0 / task.rate_hz
        self.rng = np.random.default_rng(seed)
        n = self.num_envs
        half_widths = {name: o.noise for name, o in task.obs.items() if task.noise}
        self._observer = NoisyObserver(self.contract, self.robot.joints, half_widths, n, self.rng)
        self._path = ActionPath(self.contract, self.robot.joints, (n,))
        self.commands = CommandSource(task.commands, n, self.dt_s, self.rng)
        self._pusher = Pusher(task.push, n, self.dt_s, self.rng) if task.push else None
        self._limit = max(1, round(task.episode_s * task.rate_hz))
        self._steps = np.zeros(n, dtype=np.int64)
        self._weights = np.array([r.weight * self.dt_s for r in task.rewards.values()])[:, None]
        self._given = np.zeros((len(task.rewards), n))
        """What each reward term gave in the last step."""
        self._sums = np.zeros((len(task.rewards) + 1, n))
        self._last_action = np.zeros((n, self.num_actions))
        self._air_s = np.zeros((n, len(self.robot.feet)))
        randomize(physics, task, self.rng, np.arange(n))
        low, high = task.delay_substeps
        late = self.rng.integers(low, high + 1, size=n) if high else np.zeros(n, dtype=np.int64)
        self._link = Link(physics, late, task.decimation, positions=self.contract.action.kind != "joint_effort")
        self.course = Course(task.terrain, task.curriculum, n, self.dt_s, self.rng) if task.terrain else None
        """Which tile of the terrain each copy is on."""
        self._state, self._feet_before = self._measure(), self._feet()
        self.get_up: Callable[[], bool] | None = None
        """Where set (``robot_rl.sim.recovery``): brings one robot to its feet after an episode; else it is put back."""
        self.put_back = 0
        """Times that it could not."""
        self.cat = Cat(task.constraints) if task.constraints else None
        if self.cat:
            self.cat.check(self._outcome(self._state, self._state, self._last_action, self._feet_before))
        widths = {name: term(self._state, self.contract).shape[-1] for name, term in task.privileged.items()}
        self._views = open_views(physics, self.contract.images)
        self.obs_sizes = {"policy": self.contract.obs_size}
        """Width of each group of numbers; pictures come beside them, in groups of their own."""
        if widths:
            self.obs_sizes["critic"] = self.contract.obs_size + sum(widths.values())

    @property
    def state(self) -> RobotState:
        """What the robots measure now, after resets, exact, each field (N, ...)."""
        return self._state

    def reset(self, *, in_place: bool = False) -> dict[str, np.ndarray]:
        """Reset every copy, ``in_place`` where it is now, and return the first observations, each (N, D_group)."""
        self._restart(np.arange(self.num_envs), in_place=in_place)
        self._observer.reset()
        self._state, self._feet_before = self._measure(), self._feet()
        return self._observe(self._state)

    def stagger(self) -> None:
        """Give the running episodes random ages, so that training does not see them all end at once."""
        self._steps[:] = self.rng.integers(0, self._limit, size=self.num_envs)

    def step(self, action: np.ndarray) -> WorldStep:
        """Apply raw actions in [-1, 1], shape (N, A), for one control period."""
        raw = np.asarray(action, dtype=np.float64)
        before, feet_before = self._state, self._feet_before
        self._link.drive(self._path.target(raw, before))
        if self._pusher:
            self._pusher.advance(self.physics)
        self._last_action[:] = raw
        after = self._measure()
        self._feet_before = feet = self._feet()
        outcome = self._outcome(before, after, raw, feet, feet_before)
        chance = self.cat.chance(outcome) if self.cat else None
        reward = self._reward(outcome, chance)
        terminated = self._terminated(outcome, chance)
        self._track_air(after)
        self._steps += 1
        truncated = (self._steps >= self._limit) & (terminated < 1.0)
        self.commands.advance()
        self._state = dataclasses.replace(after, command=self.commands.value.copy())
        next_obs = self._observe(self._state)
        ids = np.flatnonzero((terminated >= 1.0) | truncated)
        if self.course:
            self.course.follow(after, self.contract.command.names)
            self.course.move_on(ids, terminated[ids] >= 1.0)
        obs, log = (next_obs, {}) if ids.size == 0 else self._begin_anew(ids, next_obs, outcome)
        if self.cat:
            log |= self.cat.log
        return WorldStep(
            obs, reward.astype(np.float32), terminated.astype(np.float32), truncated, next_obs, log, outcome
        )

    def snapshot(self) -> dict[str, Any]:
        """Return all that the next step depends on, as a tree for ``checkpoint.save``.

        Empty where the backend cannot be stored: a resumed run then begins new episodes.
        """
        if not isinstance(self.physics, Restorable):
            return {}
        return {
            "physics": self.physics.snapshot(), "rng": self.rng.bit_generator.state, "steps": self._steps.copy(),
            "sums": self._sums.copy(), "last_action": self._last_action.copy(), "air_s": self._air_s.copy(),
            "link": self._link.snapshot(), "path": self._path.snapshot(), "feet": self._feet_before,
            "state": {f.name: getattr(self._state, f.name) for f in dataclasses.fields(RobotState)},
            "command": self.commands.value.copy(), "command_left_s": self.commands.left_s.copy(),
            "push_left_s": self._pusher.left_s.copy() if self._pusher else None, "put_back": self.put_back,
            "observer": self._observer.snapshot(), "cat": self.cat.snapshot() if self.cat else None,
            "course": self.course.snapshot() if self.course else None,
        }  # fmt: skip

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue from what ``snapshot`` of a world of the same task returned, bit for bit.

        Raises:
            ValueError: It is of another number of copies, or of other constraints.
        """
        if not isinstance(self.physics, Restorable):
            raise ValueError(f"physics {type(self.physics).__name__} cannot be restored")
        if self.cat:
            self.cat.restore(snapshot["cat"])
        if self.course:
            self.course.restore(snapshot["course"])
        self.physics.restore(snapshot["physics"])
        self.rng.bit_generator.state = snapshot["rng"]
        self._observer.restore(snapshot["observer"])
        self._steps, self._sums = np.array(snapshot["steps"]), np.array(snapshot["sums"])
        self._last_action, self._air_s = np.array(snapshot["last_action"]), np.array(snapshot["air_s"])
        self._link.restore(snapshot["link"])
        self._path.restore(snapshot.get("path", {}))  # absent in checkpoints of before low-passes
        self._feet_before = _array(snapshot["feet"])
        self._state = RobotState(**{name: _array(x) for name, x in snapshot["state"].items()})
        self.commands.value[:], self.commands.left_s[:] = snapshot["command"], snapshot["command_left_s"]
        self.put_back = snapshot.get("put_back", 0)
        if self._pusher:
            self._pusher.left_s[:] = snapshot["push_left_s"]

    def close(self) -> None:
        """Free the backend."""
        if self._views:
            self._views.close()
        self.physics.close()

    # -- the parts of a step --

    def _measure(self) -> RobotState:
        state = self.physics.state()
        state.command = self.commands.value.copy()
        state.last_action = self._last_action.copy()
        return state

    def _outcome(
        self,
        before: RobotState,
        after: RobotState,
        action: np.ndarray,
        feet: np.ndarray | None,
        feet_before: np.ndarray | None = None,
    ) -> Outcome:
        outcome = Outcome(before, after, action, self.dt_s, self.contract)
        if feet is not None:
            moved = feet - (feet if feet_before is None else feet_before)
            outcome.foot_air_s, outcome.foot_pos_w = self._air_s.copy(), feet
            outcome.foot_vel_w = moved / self.dt_s
            outcome.foot_force = getattr(self.physics, "foot_force", None)
        return outcome

    def _feet(self) -> np.ndarray | None:
        return getattr(self.physics, "foot_pos_w", None) if self.robot.feet else None

    def _track_air(self, after: RobotState) -> None:
        if after.foot_contact is not None:
            self._air_s += self.dt_s
            self._air_s *= after.foot_contact < 0.5

    def _reward(self, outcome: Outcome, chance: np.ndarray | None) -> np.ndarray:
        """Weighted sum of the reward terms times the control period, (N,); also kept per episode.

        With constraints only gains shrink, by ``1 - chance``: less of a penalty would reward what breaks them.
        """
        values = self._given
        for row, reward in zip(values, self.task.rewards.values(), strict=True):
            row[:] = reward.term(outcome)
        values *= self._weights
        total = (values if chance is None else np.where(values > 0.0, values * (1.0 - chance), values)).sum(0)
        self._sums[:-1] += values
        self._sums[-1] += total
        return total

    def _terminated(self, outcome: Outcome, chance: np.ndarray | None) -> np.ndarray:
        ended = np.zeros(self.num_envs) if chance is None else chance.copy()
        for term in self.task.dones.values():
            np.maximum(ended, term(outcome), out=ended)
        return ended

    def _observe(self, state: RobotState, ids: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return every group of observations; with ``ids``, (n,), of these copies, which begin anew."""
        seen, exact = self._observer(state, ids)
        pictures = self._views.look(ids) if self._views else {}
        if "critic" not in self.obs_sizes:
            return {"policy": seen, **pictures}
        critic = np.empty((len(exact), self.obs_sizes["critic"]), dtype=np.float32)
        end = exact.shape[1]
        critic[:, :end] = exact
        for term in self.task.privileged.values():
            value = term(state, self.contract)
            begin, end = end, end + value.shape[-1]
            critic[:, begin:end] = value
        return {"policy": seen, "critic": critic, **pictures}

    def _begin_anew(
        self, ids: np.ndarray, next_obs: dict[str, np.ndarray], outcome: Outcome
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Reset ``ids`` and return all observations, those of ``ids`` fresh, with the log of what ended."""
        log = self._episode_log(ids, outcome)
        up = self.get_up is not None and self.get_up()
        self.put_back += self.get_up is not None and not up
        self._restart(ids, in_place=up)
        state, self._feet_before = self._measure(), self._feet()
        obs = {name: x.copy() for name, x in next_obs.items()}
        for name, fresh in self._observe(state_rows(state, ids), ids).items():
            obs[name][ids] = fresh
        self._state = state
        return obs, log

    def _restart(self, ids: np.ndarray, *, in_place: bool = False) -> None:
        if in_place or self.get_up is not None:
            self._link.arm()  # somebody else drove
        if not in_place:
            state = initial_state(self.robot, self.task, self.rng, len(ids))
            if self.course:
                self.course.place(ids, state, self.robot.default_height_m)
            self.physics.reset(ids, state)
        self.commands.draw(ids)
        self._steps[ids] = 0
        self._sums[:, ids] = 0.0
        self._last_action[ids] = 0.0
        self._air_s[ids] = 0.0
        self._link.restart(ids)
        self._path.restart(ids)

    def _episode_log(self, ids: np.ndarray, outcome: Outcome) -> dict[str, float]:
        log = {
            "episode/return": self._sums[-1, ids].mean(),
            "episode/length_s": self._steps[ids].mean() * self.dt_s,
            "episode/count": ids.size,
        }
        for row, name in zip(self._sums, self.task.rewards, strict=False):
            log[f"reward/{name}"] = row[ids].mean() / self.task.episode_s
        if self.task.success:
            log["episode/success"] = self.task.success(outcome)[ids].mean()
        log |= self.course.log if self.course else {}
        return {name: float(value) for name, value in log.items()}


def _array(x: Any) -> Any:
    return None if x is None else np.array(x)


def state_rows(state: RobotState, ids: np.ndarray | slice) -> RobotState:
    """Return copies of the states of the copies ``ids``."""
    rows = {
        f.name: None if value is None else np.array(value[ids])
        for f in dataclasses.fields(RobotState)
        for value in (getattr(state, f.name),)
    }
    return RobotState(**rows)


def _check_rates(task: Task, physics: Physics, contract: Contract | None) -> None:
    low, high = task.delay_substeps
    if not 0 <= low <= high <= task.decimation:
        raise ValueError(
            f"task {task.name!r} has delay_substeps ({low}, {high}); 0 <= low <= high <= {task.decimation} must hold, "
            "for a link is late by at most one control period"
        )
    if abs(physics.dt_s * task.sim_rate_hz - 1.0) > 1e-9:
        raise ValueError(f"task {task.name!r} wants physics at {task.sim_rate_hz} Hz; the model steps {physics.dt_s} s")
    if contract is not None and (contract.rate_hz, contract.robot) != (task.rate_hz, physics.robot.name):
        raise ValueError(
            f"the contract is for robot {contract.robot!r} at {contract.rate_hz} Hz; the world has "
            f"{physics.robot.name!r} at {task.rate_hz} Hz"
        )
