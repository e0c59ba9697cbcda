"""Proximal policy optimisation, Schulman et al. 2017 (arXiv:1707.06347), with the defaults of RSL-RL.

Losses: clipped surrogate (eq. 7), squared value error, GAE (arXiv:1506.02438, eq. 16), learning rate steered by the
KL divergence (Rudin et al. 2022, arXiv:2109.11978, app. A). ``exploration="gsde"`` makes the noise state dependent.

Deviations from RSL-RL: the value loss is not clipped, and the KL steers the actor's learning rate only, so that a
careful actor does not starve its critic. The environment receives ``tanh(u)`` and the buffer holds ``u``: the Jacobian
of the squash cancels in the ratio, and no inverse tanh is ever taken; entropy and KL are those of ``u``. A truncated
step bootstraps from its true successor (RSL-RL adds the value of the current state). The normaliser moves between
iterations only, so that the first ratio of an update is 1; the first rollout of a run only feeds the normaliser. gSDE
matrices are redrawn at a rollout's start and every ``sde_every`` steps, not at resets. Means beyond ``mean_bound``
are pulled back (the bounds loss of rl_games).

Shapes: T time · N environments · B minibatch · D observation · A actions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robot_rl.learn import checkpoint, fused, gsde, ppo_fused, recurrent, rnd, symmetry, targets
from robot_rl.learn.nets import ACTIVATIONS, EXPLORATIONS, Actor, Critic
from robot_rl.learn.ranks import ALONE, Ranks
from robot_rl.learn.rollout import Rollout, require_finite, shuffled
from robot_rl.learn.surrogate import gaussian_kl, surrogate_loss, value_loss

_NAMES = {"activation": tuple(ACTIVATIONS), "exploration": EXPLORATIONS, "memory": recurrent.CHOICES}


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a run; the defaults are RSL-RL's where it has them."""

    total_steps: int = 30_000_000
    """Environment steps, over all environments."""
    max_minutes: float = 0.0
    """Stop after this much training time [min], earlier sessions of a resumed run included; 0 is no limit."""
    num_steps: int = 24
    """T, steps of each environment per iteration."""
    epochs: int = 5
    """Passes over a rollout."""
    minibatches: int = 4
    """Parts that a pass is cut into."""
    discount: float = 0.99
    """Per control step."""
    trace: float = 0.95
    """GAE's lambda."""
    clip: float = 0.2
    """Half width of the trusted interval around ratio 1, and of the value clip."""
    clip_value: bool = False
    """Whether to clip the value loss too, as RSL-RL does; ten times slower where returns are large."""
    value_coef: float = 1.0
    """Weight of the value loss."""
    entropy_coef: float = 0.01
    """Weight of the entropy of u."""
    mean_bound: float = 2.0
    """Means of u beyond this are penalised; tanh(2) = 0.96."""
    mean_bound_coef: float = 1e-2
    """Weight of that penalty, on the squared excess."""
    symmetry: str = "none"
    """Left and right: none, augment (mirrored samples), loss (mirror loss) or both."""
    symmetry_coef: float = 1.0
    """Weight of the mirror loss."""
    rnd: rnd.Config | None = None
    """Curiosity added to the reward (random network distillation); None is none."""
    learning_rate: float = 1e-3
    """Adam's for the actor, at the start."""
    critic_learning_rate: float = 1e-3
    """Adam's for the critic, never steered."""
    target_kl: float = 0.01
    """KL per update that steers the learning rate; 0 keeps the rate constant."""
    learning_rate_range: tuple[float, float] = (1e-5, 1e-2)
    """Bounds of the steered rate."""
    max_grad_norm: float = 1.0
    """Of actor and critic, each."""
    actor_obs: str = "policy"
    """Observation group that the actor sees; critic for a teacher, which no robot can run."""
    actor_hidden: tuple[int, ...] = (256, 128, 64)
    """Widths of the actor's hidden layers."""
    critic_hidden: tuple[int, ...] = (256, 128, 64)
    """Widths of the critic's hidden layers."""
    activation: str = "elu"
    """One of nets.ACTIVATIONS."""
    orthogonal: bool = True
    """Orthogonal initial weights, else uniform ±1/sqrt(fan in)."""
    memory: str = "none"
    """In front of actor and critic: none, gru or lstm; minibatches are then of whole environments."""
    memory_features: int = 64
    """Width of a memory's features."""
    exploration: str = "gaussian"
    """gaussian or gsde."""
    log_std: float = 0.0
    """Initial log deviation of u (gaussian), or of the entries of the gSDE matrix (then about -2)."""
    log_std_range: tuple[float, float] = (-4.0, 0.7)
    """Bounds of the log deviation."""
    sde_every: int = 8
    """gSDE: steps between draws of the matrices; 0 draws once per rollout."""
    sde_full_std: bool = True
    """gSDE: one deviation per feature and action; else per feature."""
    sde_expln: bool = False
    """gSDE: let the deviation grow only logarithmically above 1."""
    normalise: bool = True
    """Whether to normalise observations by running statistics."""
    seed: int = 0
    """Seed of initial weights, exploration and minibatches."""
    threads: int = 0
    """Threads of torch; 0 leaves them as they are."""
    bf16: bool = False
    """Let CPU matrix products round to bfloat16; only pays on CPUs with AMX or AVX512-BF16."""
    save_every: int = 50
    """Iterations between checkpoints."""
    keep_every: int = 500
    """Older checkpoints whose iteration divides by this are kept; 0 keeps only the newest two."""

    def __post_init__(self) -> None:
        for name in ("total_steps", "num_steps", "epochs", "minibatches", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"ppo config: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("discount", "trace"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"ppo config: {name} is {getattr(self, name)}; it must lie in [0, 1]")
        for name, choices in (*_NAMES.items(), ("symmetry", symmetry.CHOICES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"ppo config: no {name} {getattr(self, name)!r}; the choices are {choices}")
        if self.memory != "none" and self.symmetry != "none":
            raise ValueError(f"ppo config: symmetry {self.symmetry!r} needs memory 'none', not {self.memory!r}")


@dataclass(slots=True)
class Agent:
    """What a run learns, and all it needs to go on exactly."""

    actor: Actor
    critic: Critic
    optimiser: torch.optim.Adam
    generator: torch.Generator
    iteration: int = 0
    steps: int = 0
    train_s: float = 0.0
    sizes: dict[str, int] = field(default_factory=dict)
    """Widths of the observation groups and ``action``."""
    curiosity: rnd.Curiosity | None = None
    mirror: symmetry.Mirror | None = None
    """How the world is mirrored, where ``Config.symmetry`` asks; not stored, the world's to give."""
    ranks: Ranks = ALONE
    """The processes that make every update together; not stored."""


def make_agent(cfg: Config, sizes: dict[str, int], device: torch.device | str = "cpu") -> Agent:
    """Build a fresh agent.

    Args:
        cfg: Settings.
        sizes: Widths of the observation groups (``policy``, and ``critic`` where there is one) and ``action``.
        device: Where the networks live.
    """
    if cfg.actor_obs not in sizes:
        groups = sorted(set(sizes) - {"action"})
        raise ValueError(f"ppo config: actor_obs is {cfg.actor_obs!r}; the world's observation groups are {groups}")
    seeder = torch.Generator().manual_seed(cfg.seed)
    widths = sizes[cfg.actor_obs], sizes.get("critic", sizes["policy"])
    seen = widths if cfg.memory == "none" else (cfg.memory_features, cfg.memory_features)
    actor = Actor(
        seen[0], sizes["action"], hidden=cfg.actor_hidden, activation=cfg.activation, orthogonal=cfg.orthogonal,
        exploration=cfg.exploration, log_std=cfg.log_std, full_std=cfg.sde_full_std, expln=cfg.sde_expln,
        generator=seeder,
    )  # fmt: skip
    hidden, activation = cfg.critic_hidden, cfg.activation
    critic = Critic(seen[1], hidden=hidden, activation=activation, orthogonal=cfg.orthogonal, generator=seeder)
    if cfg.memory != "none":
        actor, critic = recurrent.wrap(cfg.memory, actor, critic, widths, generator=seeder)
    actor, critic = actor.to(device), critic.to(device)
    groups = [
        {"params": list(actor.parameters()), "lr": cfg.learning_rate},
        {"params": list(critic.parameters()), "lr": cfg.critic_learning_rate},
    ]
    optimiser = torch.optim.Adam(groups, fused=True)
    generator = torch.Generator(device).manual_seed(cfg.seed)
    curiosity = rnd.make_curiosity(cfg.rnd, sizes, seed=cfg.seed, device=device) if cfg.rnd else None
    return Agent(actor, critic, optimiser, generator, sizes=dict(sizes), curiosity=curiosity)


def steer(rate: float, kl: float, cfg: Config) -> float:
    """Return the learning rate after a look at the KL: down by 1.5 above twice the target, up below half of it."""
    low, high = cfg.learning_rate_range
    if cfg.target_kl <= 0.0:
        return rate
    if kl > 2.0 * cfg.target_kl:
        return max(low, rate / 1.5)
    if 0.0 < kl < 0.5 * cfg.target_kl:
        return min(high, rate * 1.5)
    return rate


@torch.no_grad()
def as_batch(agent: Agent, rollout: Rollout, cfg: Config) -> dict[str, Tensor]:
    """Normalise, evaluate and flatten a rollout: everything the update reads, each (T*N, ...)."""
    obs = agent.actor.norm(rollout.obs[cfg.actor_obs].flatten(0, 1))  # (T*N, D)
    critic_obs = agent.critic.norm(rollout.critic_obs.flatten(0, 1))
    memory: dict[str, Tensor] = {}
    if isinstance(agent.critic, recurrent.RecurrentCritic):
        value, next_value, memory = agent.critic.of_rollout(rollout)
    else:
        value, next_value = _values(agent.critic, critic_obs, rollout)
    advantage = targets.gae(
        rollout.reward, value, next_value, rollout.terminated, rollout.truncated,
        discount=cfg.discount, trace=cfg.trace,
    )  # fmt: skip
    ret = advantage + value
    every = agent.ranks.rows(advantage.flatten())
    advantage = (advantage - every.mean()) / (every.std() + 1e-8)
    batch = {
        "obs": obs, "critic_obs": critic_obs, "u": rollout.u.flatten(0, 1), "mean": rollout.mean.flatten(0, 1),
        "std": rollout.std.flatten(0, 1), "value": value.flatten(), "ret": ret.flatten(),
        "advantage": advantage.flatten(), **memory,
    }  # fmt: skip
    if cfg.symmetry != "none":
        assert agent.mirror is not None, "symmetry: the agent has no mirror"
        batch |= symmetry.images(agent.mirror, rollout, cfg.actor_obs, agent.actor.norm, agent.critic.norm)
    require_finite(batch)
    batch["log_prob"] = gsde.log_prob(batch["u"], batch["mean"], batch["std"])
    return batch


def _values(critic: Critic, obs: Tensor, rollout: Rollout) -> tuple[Tensor, Tensor]:
    """Return V(s_t) and V of the true successors, each (T, N); ``obs`` are the normalised ones, (T*N, D)."""
    value = critic(obs).view_as(rollout.reward)
    successor = torch.cat((value[1:], critic(critic.norm(rollout.last_critic_obs)).unsqueeze(0)))
    if rollout.cut_at:
        successor.view(-1)[torch.cat(rollout.cut_at)] = critic(critic.norm(torch.cat(rollout.cut_obs)))
    return value, successor


def losses(agent: Agent, mb: dict[str, Tensor], cfg: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one minibatch and its parts (detached)."""
    rows = mb["u"].shape[0]
    all_ = symmetry.augmented(mb, agent.mirror) if agent.mirror and cfg.symmetry in ("augment", "both") else mb
    means, stds = agent.actor.distribution(all_["obs"], *recurrent.context(all_, "actor"))
    ratio = (gsde.log_prob(all_["u"], means, stds) - all_["log_prob"]).exp()
    policy = surrogate_loss(ratio, all_["advantage"], clip=cfg.clip)
    value = agent.critic(all_["critic_obs"], *recurrent.context(all_, "critic"))
    value = value_loss(value, all_["value"], all_["ret"], clip=cfg.clip if cfg.clip_value else None)
    mean, std = means[:rows], stds[:rows]  # of the originals
    entropy = gsde.entropy(std).mean()
    bound = (mean.abs() - cfg.mean_bound).clamp(min=0.0).square().sum(-1).mean()
    loss = policy + cfg.value_coef * value - cfg.entropy_coef * entropy + cfg.mean_bound_coef * bound
    parts = {"policy_loss": policy, "value_loss": value, "entropy": entropy, "mean_bound": bound}
    if agent.mirror is not None and cfg.symmetry != "none":
        image = means[rows:] if len(means) > rows else agent.actor.distribution(mb["mirror_obs"])[0]
        parts["asymmetry"] = asymmetry = symmetry.mirror_loss(mean, image, agent.mirror)
        loss = loss + cfg.symmetry_coef * asymmetry if cfg.symmetry in ("loss", "both") else loss
    with torch.no_grad():
        kl = gaussian_kl(mb["mean"], mb["std"], mean, std).mean()
        clipped = ((ratio[:rows] - 1.0).abs() > cfg.clip).to(ratio.dtype).mean()
    return loss, {k: v.detach() for k, v in parts.items()} | {"kl": kl, "clip_fraction": clipped}


def update(agent: Agent, batch: dict[str, Tensor], cfg: Config) -> dict[str, float]:
    """Make ``epochs`` passes over a batch and return the means of what the losses saw.

    Raises:
        FloatingPointError: A loss or gradient is not finite; the weights are those of the last good step.
    """
    names, sums, count = [], torch.zeros(()), 0
    nets = (agent.actor, agent.critic)
    rates = agent.optimiser.param_groups[0]
    minibatches = shuffled if cfg.memory == "none" else recurrent.minibatches
    closed = ppo_fused.fits(*nets)
    flat = [fused.gather(net) for net in nets] if closed else []
    for _ in range(cfg.epochs):
        for mb in minibatches(batch, cfg.minibatches, agent.generator):
            parts = _gradients(agent, mb, cfg, closed=closed)
            grads = flat or [p.grad for net in nets for p in net.parameters() if p.grad is not None]
            agent.ranks.mean_([*grads, *parts.values()])
            rates["lr"] = steer(rates["lr"], float(parts["kl"]), cfg)
            norms = [fused.clip_norm_(x, cfg.max_grad_norm) for x in flat] or [
                torch.nn.utils.clip_grad_norm_(net.parameters(), cfg.max_grad_norm) for net in nets
            ]
            parts |= {"actor_grad": norms[0], "critic_grad": norms[1]}
            names, seen = list(parts), torch.stack(list(parts.values()))
            if not bool(seen.isfinite().all()):
                require_finite(parts)
            agent.optimiser.step()
            with torch.no_grad():
                agent.actor.log_std.clamp_(*cfg.log_std_range)
            sums, count = seen + sums, count + 1
    explained = 1.0 - (batch["ret"] - batch["value"]).var() / (batch["ret"].var() + 1e-8)
    means = {f"loss/{name}": total / count for name, total in zip(names, sums.tolist(), strict=True)}
    std = float(batch["std"].mean())
    return means | {
        "loss/explained_variance": float(explained),
        "loss/learning_rate": agent.optimiser.param_groups[0]["lr"],
        "policy/std": std,
    }


def _gradients(agent: Agent, mb: dict[str, Tensor], cfg: Config, *, closed: bool) -> dict[str, Tensor]:
    """Fill every parameter's ``grad`` from one minibatch and return the parts of the loss."""
    if closed:
        return ppo_fused.gradients(agent.actor, agent.critic, mb, cfg, mirror=agent.mirror, processes=agent.ranks.here)
    agent.optimiser.zero_grad(set_to_none=True)
    loss, parts = losses(agent, mb, cfg)
    loss.backward()
    return parts


def load_agent(path: Path) -> tuple[Agent, Config]:
    """Read the agent of a checkpoint, for evaluation or export, with the config it was trained under.

    Raises:
        ValueError: The file is no whole checkpoint of PPO.
    """
    tree = checkpoint.load(path)
    if tree.get("algorithm") != "ppo":
        raise ValueError(f"{path} is a checkpoint of {tree.get('algorithm')!r}, not of 'ppo'")
    return unpack(tree)


def pack(agent: Agent, cfg: Config) -> dict[str, Any]:
    """Return the agent as a tree for ``checkpoint.save``."""
    return {
        "algorithm": "ppo", "config": asdict(cfg), "sizes": agent.sizes, "iteration": agent.iteration,
        "steps": agent.steps, "train_s": agent.train_s, "actor": agent.actor.state_dict(),
        "critic": agent.critic.state_dict(), "optimiser": agent.optimiser.state_dict(),
        "generator": agent.generator.get_state(), "rnd": rnd.pack(agent.curiosity) if agent.curiosity else None,
        "memory": recurrent.pack(agent.actor, agent.critic),
    }  # fmt: skip


def unpack(tree: dict[str, Any], cfg: Config | None = None, device: torch.device | str = "cpu") -> tuple[Agent, Config]:
    """Rebuild the agent; ``cfg`` replaces the stored settings, where given."""
    stored = checkpoint.settings(tree, Config)
    stored["rnd"] = rnd.read_config(stored.get("rnd"))
    cfg = cfg or Config(**stored)
    if (cfg.rnd is None) != (tree.get("rnd") is None):
        raise ValueError(f"the checkpoint was trained with rnd = {stored['rnd']}; the recipe says {cfg.rnd}")
    agent = make_agent(cfg, tree["sizes"], device)
    agent.actor.load_state_dict(tree["actor"])
    agent.critic.load_state_dict(tree["critic"])
    agent.optimiser.load_state_dict(tree["optimiser"])
    agent.generator.set_state(tree["generator"])
    if agent.curiosity is not None:
        rnd.unpack(agent.curiosity, tree["rnd"])
    agent.iteration, agent.steps, agent.train_s = tree["iteration"], tree["steps"], tree["train_s"]
    return agent, cfg
