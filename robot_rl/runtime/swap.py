"""Hot swap of policies while the loop runs.

A candidate is loaded and inspected in a background thread (file, contract, golden vectors, speed, saturation), then
runs for ``shadow_ticks`` next to the live policy without touching the robot, then takes over at a tick boundary, then
is on probation: an alarm of the shield brings back the old policy, which stays loaded. Every outcome is an event.

Policies with a memory see every tick from the first one in which they might be asked: the candidate while it shadows,
the old one during the probation of its successor. So neither the exchange nor the way back is a loss of memory.

Knows: two loaded policies, their contracts, a tick counter.
Does not know: where files come from, who asked, ROS, torch.

Shapes: D observation, A action.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.contract.box import without_box
from robot_rl.runtime.mailbox import Inbox, Mailbox
from robot_rl.runtime.modes import names
from robot_rl.runtime.policy import Policy, saturation
from robot_rl.runtime.shield import Reason

ALARMS = Reason.TILT | Reason.OVERSPEED | Reason.TARGET_INVALID
"""Shield findings that end a probation at once."""
SOFT_ALARMS = Reason.POSITION_CLIPPED | Reason.RATE_LIMITED | Reason.EFFORT_CLIPPED
"""Findings that end it when they come clearly more often than under the policy before."""
_ALARMS, _SOFT = int(ALARMS), int(SOFT_ALARMS)


MORE_SATURATED = 0.2
"""How much more of a candidate's actions may stand at their bounds than of the live policy's, of the same states."""


class Stage(Enum):
    """Where the newest candidate stands."""

    IDLE = "idle"
    SHADOW = "shadow"
    PROBATION = "probation"


@dataclass(frozen=True, slots=True)
class SwapConfig:
    """When a candidate passes."""

    shadow_ticks: int = 25
    """Ticks next to the live policy before the exchange; half a second at 50 Hz."""
    probation_ticks: int = 100
    """Ticks of driving until the candidate is kept for good; two seconds at 50 Hz."""
    budget: float = 0.25
    """Largest median inference time, as a fraction of the control period."""
    saturated: float = 0.5
    """Largest share of raw actions at their bounds, golden ones and those in the shadow; ``MORE_SATURATED`` above the
    live policy's own where that is more, for some tasks are solved at the bounds."""
    soft_alarms: float = 0.3
    """How much more often, as a share of ticks, the shield may correct the candidate than the policy before."""


class Swap:
    """The live policy and its possible successor. ``offer`` is for any thread, the rest for the control thread."""

    def __init__(self, live: Policy, load: Callable[[Path], Policy], *, period_s: float, config: SwapConfig) -> None:
        """Start with ``live`` driving.

        Args:
            live: The policy that drives.
            load: Reads and checks a policy file, raising ValueError or OSError with the reason.
            period_s: Control period; what ``config.budget`` is a fraction of.
            config: When a candidate passes.
        """
        self.live = live
        self.previous: Policy | None = None
        """The policy before; loaded as long as a roll-back may need it."""
        self.candidate: Policy | None = None
        self.stage = Stage.IDLE
        self.events: Inbox[dict[str, Any]] = Inbox(256)
        """What happened, for the recorder and the operator; JSON values."""
        self._load, self._config = load, config
        self._budget_s = config.budget * period_s
        self._period_s = period_s
        self._offered: Mailbox[Path] = Mailbox()
        self._loaded: Mailbox[Policy] = Mailbox()
        self._loading = threading.Lock()
        self._retired: Inbox[Policy] = Inbox(8)  # freed by the next loader: the control thread frees no sessions
        self._rolled_back: set[int] = set()
        actions = live.contract.num_actions
        self._shadow_actions = np.zeros((2, config.shadow_ticks, actions), np.float32)  # candidate's, live policy's
        self._shadow_s = np.zeros(config.shadow_ticks)
        self._ticks = self._slow_ticks = 0
        self._proven = True  # the live policy has passed its probation
        self._driven = self._corrected = 0  # ticks of the live policy, and those that the shield corrected
        self._before = 0.0  # share of corrected ticks under the policy before

    # -- any thread ---------------------------------------------------------------------------------------------------

    def offer(self, path: Path | str) -> None:
        """Propose the policy in ``path``; returns at once. A newer offer replaces one that still waits."""
        self._offered.put(Path(path))
        threading.Thread(target=self._load_offers, name="policy-loader").start()

    def _load_offers(self) -> None:
        with self._loading:
            while self._retired.take() is not None:
                pass
            path = self._offered.take()
            if path is None:  # an earlier thread took it
                return
            try:
                policy = self._load(path)
                self._inspect(policy)
            except (ValueError, OSError) as error:
                self._tell("swap_refused", path=path, stage="load", reason=str(error))
                return
            self._loaded.put(policy)

    def _inspect(self, policy: Policy) -> None:
        """Raise ValueError where a loaded policy must not even shadow."""
        live = self.live
        if policy.fingerprint in self._rolled_back:
            raise ValueError(f"{policy.path} was rolled back before")
        if without_box(policy.contract) != without_box(live.contract):  # the box grows from offer to offer
            raise ValueError(
                f"{policy.path} has another contract ({policy.contract.fingerprint[:12]}…) than the live policy "
                f"({live.contract.fingerprint[:12]}…): {_difference(policy, live)}"
            )
        if policy.infer_s > self._budget_s:
            raise ValueError(_slow(policy, policy.infer_s, self._budget_s, self._period_s))
        if policy.saturation > (limit := self._most_saturated(live.saturation)):
            raise ValueError(_saturating(policy, policy.saturation, limit, "golden"))

    # -- control thread -----------------------------------------------------------------------------------------------

    def at_boundary(self, *, driving: bool) -> bool:
        """Move on between two ticks; return whether the live policy is another one from now on.

        Args:
            driving: Whether the live policy's actions reach the robot; otherwise there is nothing to shadow.
        """
        if self.stage is not Stage.PROBATION or (self._driven == 0 and not driving):
            arrived = self._loaded.take()
            if arrived is not None and arrived.fingerprint != self.live.fingerprint:
                self._retire(self.candidate)
                self.candidate, self.stage, self._ticks = arrived, Stage.SHADOW, 0
                self._slow_ticks = 0
        if self.stage is not Stage.SHADOW:
            return False
        if not driving:
            self._exchange()
            return True
        if self._ticks < self._config.shadow_ticks:
            return False
        reason = self._judge_shadow()
        if reason:
            self._refuse(reason)
            return False
        self._exchange()
        return True

    def shadow(self, obs: np.ndarray, answer: np.ndarray, pictures: Mapping[str, np.ndarray] | None = None) -> None:
        """Let the candidate, if one shadows, answer what the live policy just answered with ``answer``, (A,).

        Args:
            obs: What it saw, (D,).
            answer: Its raw action.
            pictures: What its cameras showed, as ``Policy.infer`` takes them.
        """
        if self.stage is Stage.PROBATION and self.previous is not None and self.previous.memory is not None:
            self.previous.infer(obs, pictures=pictures)
        candidate = self.candidate
        if self.stage is not Stage.SHADOW or candidate is None or self._ticks >= self._config.shadow_ticks:
            return
        begin = time.perf_counter()
        action = candidate.infer(obs, pictures=pictures)
        spent_s = time.perf_counter() - begin
        self._shadow_actions[:, self._ticks] = action, answer
        self._shadow_s[self._ticks] = spent_s
        self._ticks += 1
        if not np.isfinite(action).all():
            self._refuse(f"{candidate.path} gave an action that is not finite in shadow tick {self._ticks}")
        elif spent_s > self._period_s / 2:  # one such tick may be the scheduler's doing, a fifth of all is not
            self._slow_ticks += 1
            if self._slow_ticks > self._config.shadow_ticks // 5:
                self._refuse(_slow(candidate, spent_s, self._budget_s, self._period_s))

    def forget(self) -> None:
        """Empty all memories: the robot begins anew."""
        for policy in (self.live, self.candidate, self.previous):
            if policy is not None:
                policy.forget()

    def watch(self, reasons: int) -> bool:
        """Take note of what the shield said of the live policy's action; return whether that rolled it back."""
        self._driven += 1
        self._corrected += bool(reasons & _SOFT)
        if self.stage is not Stage.PROBATION:
            return False
        if reasons & _ALARMS:
            return self._roll_back(f"shield alarm {names(reasons & _ALARMS)} in probation tick {self._driven}")
        share = self._corrected / self._driven
        if self._driven >= 20 and share > self._before + self._config.soft_alarms:
            return self._roll_back(
                f"the shield corrected {share:.0%} of its ticks, {self._before:.0%} under the policy before"
            )
        if self._driven >= self._config.probation_ticks:
            self._tell("swap_kept", policy=self.live)
            self._proven, self.stage = True, Stage.IDLE
        return False

    def _judge_shadow(self) -> str:
        """Return why the candidate may not drive, empty where it may."""
        assert self.candidate is not None
        median_s = float(np.median(self._shadow_s))
        if median_s > self._budget_s:
            return _slow(self.candidate, median_s, self._budget_s, self._period_s)
        share, usual = (saturation(actions, self.candidate.contract) for actions in self._shadow_actions)
        if share > (limit := self._most_saturated(usual)):
            return _saturating(self.candidate, share, limit, "shadow")
        return ""

    def _most_saturated(self, usual: float) -> float:
        """Return which share of actions may stand at their bounds where the live policy's share is ``usual``."""
        return max(self._config.saturated, min(usual + MORE_SATURATED, 1.0))

    def _exchange(self) -> None:
        """Let the candidate drive; what proved itself last stays loaded, for the way back."""
        assert self.candidate is not None
        before = self.live
        if self._proven:
            self._retire(self.previous)
            self.previous = self.live
            self._before = self._corrected / self._driven if self._driven else 0.0
        else:
            self._retire(self.live)
        self.live, self.candidate = self.candidate, None
        self._driven = self._corrected = 0
        self._proven, self.stage = False, Stage.PROBATION
        self._tell("swap", policy=self.live, previous=before)

    def _roll_back(self, reason: str) -> bool:
        assert self.previous is not None
        failed = self.live
        self._rolled_back.add(failed.fingerprint)
        self._retire(failed)
        self.live, self.previous = self.previous, None
        self._driven = self._corrected = 0
        self._proven, self.stage = True, Stage.IDLE
        self._tell("swap_rolled_back", policy=self.live, previous=failed, reason=reason)
        return True

    def _refuse(self, reason: str) -> None:
        assert self.candidate is not None
        self._tell("swap_refused", path=self.candidate.path, stage="shadow", reason=reason)
        self._retire(self.candidate)
        self.candidate, self.stage = None, Stage.IDLE

    def _retire(self, policy: Policy | None) -> None:
        if policy is not None:
            self._retired.put(policy)

    def _tell(self, event: str, **detail: Any) -> None:
        """Leave an event; policies become the SHA-256 of their files, paths text."""
        content = {k: v.bundle.file_sha256 if isinstance(v, Policy) else v for k, v in detail.items()}
        self.events.put({"event": event, **{k: str(v) if isinstance(v, Path) else v for k, v in content.items()}})


def _slow(policy: Policy, spent_s: float, budget_s: float, period_s: float) -> str:
    return (
        f"{policy.path} is slow: inference takes {spent_s * 1e3:.3g} ms; "
        f"the budget is {budget_s * 1e3:.3g} ms of the {period_s * 1e3:.3g} ms period"
    )


def _saturating(policy: Policy, share: float, limit: float, where: str) -> str:
    return f"{policy.path} saturates: {share:.0%} of its {where} actions stand at their bounds; at most {limit:.0%} may"


def _difference(policy: Policy, live: Policy) -> str:
    """Name the fields of the contract that differ."""
    names = [n for n in policy.contract.__slots__ if getattr(policy.contract, n) != getattr(live.contract, n)]
    return "they differ in " + ", ".join(names)
