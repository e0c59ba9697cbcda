"""The gradient in closed form against autograd, on one core and on two."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robot_rl.hardware.symmetry import Reflection, Reflections
from robot_rl.learn import beside, fused, gsde, ppo, ppo_fused, symmetry

CONFIG = ppo.Config(
    actor_hidden=(32, 16),
    critic_hidden=(24, 16),
    entropy_coef=0.03,
    mean_bound=0.5,
    mean_bound_coef=0.7,
    value_coef=0.6,
    symmetry_coef=0.4,
)
SIZES = {"policy": 5, "critic": 7, "action": 3}
MIRROR = Reflections(
    {
        "policy": Reflection((1, 0, 2, 3, 4), (1.0, 1.0, -1.0, 1.0, 1.0)),
        "critic": Reflection((0, 2, 1, 3, 4, 5, 6), (1.0, 1.0, 1.0, -1.0, 1.0, 1.0, 1.0)),
    },
    Reflection((1, 0, 2), (1.0, 1.0, -1.0)),
)
GSDE = {"exploration": "gsde", "log_std": -1.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"activation": "relu"},
    "tanh": {"activation": "tanh"},
    "clip_value": {"clip_value": True, "clip": 0.1},
    "augment": {"symmetry": "augment"},
    "loss": {"symmetry": "loss"},
    "both": {"symmetry": "both", "clip_value": True},
    "gsde": GSDE,
    "gsde, one deviation": {**GSDE, "sde_full_std": False},
    "gsde, expln": {**GSDE, "sde_expln": True, "log_std": -0.2},
    "gsde, augment": {**GSDE, "symmetry": "augment"},
    "gsde, loss": {**GSDE, "symmetry": "loss"},
}


def moved(cfg: ppo.Config, rows: int = 200) -> tuple[ppo.Agent, dict[str, Tensor]]:
    """Return an agent that has moved away from what explored, in float64, and rows of which many are clipped."""
    agent = ppo.make_agent(cfg, SIZES)
    agent.actor.double()
    agent.critic.double()
    agent.mirror = symmetry.make_mirror(MIRROR, SIZES) if cfg.symmetry != "none" else None
    g = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mb = {"obs": draw(rows, 5), "critic_obs": draw(rows, 7), "advantage": draw(rows), "value": draw(rows)}
    mb |= {"mean": 0.3 * draw(rows, 3), "std": torch.tensor([0.7, 0.8, 0.9], dtype=torch.float64).expand(rows, 3)}
    mb |= {"ret": mb["value"] + draw(rows), "u": mb["mean"] + mb["std"] * draw(rows, 3)}
    mb |= {"mirror_obs": draw(rows, 5), "mirror_critic_obs": draw(rows, 7)} if agent.mirror else {}
    with torch.no_grad():
        agent.actor.mlp.linears()[-1].weight.mul_(100.0)
        agent.actor.log_std.add_(0.3 * draw(*agent.actor.log_std.shape))
        if cfg.exploration == "gsde":
            mb["std"] = 1.1 * agent.actor.distribution(mb["obs"])[1]
        agent.critic.mlp.linears()[-1].weight.mul_(0.2)
        near = (torch.arange(rows) % 2).double()  # of every other row the old value is close to the new one
        mb["value"] = torch.lerp(mb["value"], agent.critic(mb["critic_obs"]), 0.99 * near)
    mb["log_prob"] = gsde.log_prob(mb["u"], mb["mean"], mb["std"])
    return agent, mb


def grads(agent: ppo.Agent) -> dict[str, Tensor]:
    """Return every gradient by the parameter's name."""
    nets = {"actor": agent.actor, "critic": agent.critic}
    named = {f"{i}.{name}": p.grad for i, net in nets.items() for name, p in net.named_parameters()}
    return {name: grad.clone() for name, grad in named.items() if grad is not None}


def closed(agent: ppo.Agent, mb: dict[str, Tensor], cfg: ppo.Config) -> dict[str, Tensor]:
    """Return the parts of the loss, and leave the gradients in the parameters."""
    for net in (agent.actor, agent.critic):
        fused.gather(net).fill_(torch.nan)
    return ppo_fused.gradients(agent.actor, agent.critic, mb, cfg, mirror=agent.mirror)


@pytest.mark.parametrize("name", VARIANTS)
def test_gradients_and_parts_are_those_of_autograd(name: str) -> None:
    cfg = replace(CONFIG, **VARIANTS[name])
    agent, mb = moved(cfg)
    assert ppo_fused.fits(agent.actor, agent.critic)
    loss, expected = ppo.losses(agent, mb, cfg)
    loss.backward()
    assert 0.2 < float(expected["clip_fraction"]) < 0.97 and float(expected["mean_bound"]) > 0.02  # every part speaks
    wanted = grads(agent)
    parts = closed(agent, mb, cfg)
    assert set(parts) == set(expected)
    torch.testing.assert_close(parts, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(grads(agent), wanted, rtol=1e-9, atol=1e-12)


def test_a_clipped_value_loss_is_held_in_some_rows_and_free_in_others() -> None:
    cfg = replace(CONFIG, **VARIANTS["clip_value"])
    agent, mb = moved(cfg)
    parts, free = closed(agent, mb, cfg), closed(agent, mb, replace(cfg, clip_value=False))
    assert float(parts["value_loss"]) > 1.01 * float(free["value_loss"])
    value = agent.critic(mb["critic_obs"])
    held = (value - mb["value"]).abs() > cfg.clip
    assert 0.1 < float(held.double().mean()) < 0.9


@pytest.mark.parametrize("name", ["plain", "both", "gsde"])
def test_two_cores_give_the_bits_of_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = replace(CONFIG, **VARIANTS[name])

    def learnt(apart: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        monkeypatch.setattr(beside, "spare", lambda *_: apart)
        agent, mb = moved(cfg)
        return closed(agent, mb, cfg), grads(agent)

    one, two = learnt(False), learnt(True)
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_networks_without_a_closed_form_are_left_to_autograd() -> None:
    for other in (replace(CONFIG, memory="gru"), replace(CONFIG, activation="silu")):
        agent = ppo.make_agent(other, SIZES)
        assert not ppo_fused.fits(agent.actor, agent.critic)


@pytest.mark.parametrize("name", ["plain", "clip_value", "both", "gsde"])
def test_an_update_is_the_same_either_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = replace(CONFIG, **VARIANTS[name], epochs=2, minibatches=4)

    def learnt() -> tuple[list[Tensor], dict[str, float]]:
        _, mb = moved(cfg)
        agent = ppo.make_agent(cfg, SIZES)
        agent.mirror = symmetry.make_mirror(MIRROR, SIZES) if cfg.symmetry != "none" else None
        said = ppo.update(agent, {name: x.float() for name, x in mb.items()}, cfg)
        return [*agent.actor.parameters(), *agent.critic.parameters()], said

    ours, said = learnt()
    monkeypatch.setattr(ppo_fused, "fits", lambda actor, critic: False)
    slow, expected = learnt()
    torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-5)
    assert said == pytest.approx(expected, rel=1e-4, abs=1e-5)
