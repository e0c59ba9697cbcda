"""What each of the processes of ``test_ranks.py`` does; torchrun starts it. Writes ``<out>/<what>-<rank>.json``."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robot_rl.learn import ppo, ranks, recurrent, rnd
from robot_rl.learn.env import Step
from robot_rl.learn.ppo_loop import train
from robot_rl.learn.rollout import Rollout, start_rollout
from tests.learn.toy_env import PointMass

N = 32
CONFIG = ppo.Config(
    total_steps=6 * 8 * N, num_steps=8, actor_hidden=(16, 16), critic_hidden=(16, 16), save_every=2, target_kl=0.01
)


def made_up(envs: slice) -> Rollout:
    """Return a rollout of these of ``N`` environments, the same on every rank, with ends of both kinds."""
    generator = torch.Generator().manual_seed(5)
    obs = {"policy": torch.randn(8, N, 2, generator=generator), "critic": torch.randn(8, N, 3, generator=generator)}
    draws = {name: torch.randn(8, N, 1, generator=generator) for name in ("u", "mean", "reward")}
    out = start_rollout({name: x[0, envs] for name, x in obs.items()}, 8, 1)
    for name, x in obs.items():
        out.obs[name][:] = x[:, envs]
    out.u[:], out.mean[:], out.std[:] = draws["u"][:, envs], 0.1 * draws["mean"][:, envs], 0.8
    out.reward[:] = draws["reward"][:, envs, 0]
    out.terminated[3], out.terminated[5] = 1.0, 0.25
    out.last = {name: x[0] for name, x in out.obs.items()}
    return out


def learnt(who: ranks.Ranks, envs: slice, memory: str) -> list[torch.Tensor]:
    """Return all weights after one update from these environments, and the steered learning rate."""
    curious = rnd.Config(epochs=4, minibatches=1, embedding=4, target_hidden=(8,), predictor_hidden=(8,))
    cfg = replace(CONFIG, epochs=3, minibatches=1, rnd=curious, memory=memory, memory_features=8)
    agent = ppo.make_agent(cfg, {"policy": 2, "critic": 3, "action": 1})
    agent.ranks = who
    rollout = made_up(envs)
    if isinstance(agent.actor, recurrent.RecurrentActor):
        rollout.memory = agent.actor.begin(len(rollout.last["policy"]))
    agent.actor.norm.update(who.rows(rollout.obs["policy"].flatten(0, 1)))
    agent.critic.norm.update(who.rows(rollout.critic_obs.flatten(0, 1)))
    rnd.watch(rollout, curious)
    rollout.successor["policy"][:] = rollout.obs["policy"].roll(-1, 0)
    rnd.add_bonus(agent.curiosity, curious, rollout, who, steps=0, discount=0.9)
    ppo.update(agent, ppo.as_batch(agent, rollout, cfg), cfg)
    assert agent.curiosity is not None
    rnd.learn(agent.curiosity, curious, rollout, agent.generator, who)
    parts = agent.actor, agent.critic, agent.curiosity.predictor, agent.curiosity.norm, agent.curiosity.spread
    state = [x for part in parts for x in part.state_dict().values()]
    return [x.double().flatten() for x in state] + [torch.tensor([agent.optimiser.param_groups[0]["lr"]])]


def gradient(who: ranks.Ranks, _: Path, memory: str = "none") -> Any:
    """Compare the update of all ranks with that of one process that has the environments of all."""
    share = N // who.size
    ours = torch.cat(learnt(who, slice(who.rank * share, (who.rank + 1) * share), memory))
    alone = torch.cat(learnt(ranks.ALONE, slice(0, N), memory))
    return {"gap": float((ours - alone).abs().max()), "moved": float(alone.abs().max()), "weights": ours.tolist()}


def remembering(who: ranks.Ranks, out: Path) -> Any:
    """Do the same with an actor and a critic that remember."""
    return gradient(who, out, "lstm")


def whole(who: ranks.Ranks, out: Path) -> Any:
    """Train in one go, in two sessions, and say what came of both."""

    def world() -> PointMass:
        return PointMass(N // who.size, seed=who.seed(1), episode=5)

    one = train(CONFIG, world(), out / "one", progress=False, ranks=who)
    half = replace(CONFIG, total_steps=CONFIG.total_steps // 2)
    train(half, world(), out / "two", progress=False, ranks=who)
    two = train(CONFIG, world(), out / "two", resume=True, progress=False, ranks=who)
    weights = [torch.cat([p.detach().flatten() for p in a.actor.parameters()]).tolist() for a in (one, two)]
    return {"one": weights[0], "two": weights[1], "steps": one.steps, "noise": one.generator.initial_seed()}


class Mortal(PointMass):
    """Kills its process in the twentieth step, as the kernel does when memory runs out."""

    age = 0

    def step(self, action: torch.Tensor) -> Step:
        self.age += 1
        if self.age == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(action)


def killed(who: ranks.Ranks, out: Path) -> Any:
    """Lose the last rank; the others say so and end."""
    kind = Mortal if who.rank == who.size - 1 else PointMass
    try:
        train(replace(CONFIG, total_steps=10**9), kind(N), out / "lost", progress=False, ranks=who)
    except ranks.RankLostError as error:
        return {"error": str(error)}


class Impatient(PointMass):
    """Presses Ctrl-C in the twenty-eighth step, which is of the third iteration."""

    age = 0

    def step(self, action: torch.Tensor) -> Step:
        self.age += 1
        if self.age == 28:
            signal.raise_signal(signal.SIGINT)
        return super().step(action)


def stopped(who: ranks.Ranks, out: Path) -> Any:
    """Stop the last rank; all stop and save, and go on later."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kind, left = Impatient if who.rank == who.size - 1 else PointMass, False
    try:
        train(CONFIG, kind(N // who.size, seed=who.seed(1), episode=5), out / "left", progress=False, ranks=who)
    except KeyboardInterrupt:
        left = True
    who.meet()
    names = [str(path.relative_to(out)) for path in sorted((out / "left").glob("**/*.npz"))]
    who.meet()
    world = PointMass(N // who.size, seed=who.seed(1), episode=5)
    agent = train(CONFIG, world, out / "left", resume=True, progress=False, ranks=who)
    weights = torch.cat([p.detach().flatten() for p in agent.actor.parameters()]).tolist()
    return {"left": left, "names": names, "weights": weights}


def drifted(who: ranks.Ranks, _: Path) -> Any:
    """Let one rank's weights be others."""
    try:
        who.check_equal([torch.ones(3), torch.full((2, 2), float(who.rank))])
    except RuntimeError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with ranks.joined() as me:
        for name in sys.argv[2:]:
            answer = globals()[name](me, folder)
            (folder / f"{name}-{me.rank}.json").write_text(json.dumps(answer))
    threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
    (folder / f"threads-{me.rank}.json").write_text(json.dumps({"after": threads}))
