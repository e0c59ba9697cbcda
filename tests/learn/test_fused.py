"""The gradient in closed form against autograd."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from robot_rl.learn import fused, gsde, ppo

CONFIG = ppo.Config(
    actor_hidden=(32, 16),
    critic_hidden=(24, 16),
    entropy_coef=0.03,
    mean_bound=0.5,
    mean_bound_coef=0.7,
    value_coef=0.6,
)


def moved(activation: str, rows: int = 200) -> tuple[ppo.Agent, dict[str, Tensor], ppo.Config]:
    """Return an agent that has moved away from what explored, in float64, and rows of which many are clipped."""
    cfg = replace(CONFIG, activation=activation)
    agent = ppo.make_agent(cfg, {"policy": 5, "critic": 7, "action": 3})
    agent.actor.double(), agent.critic.double()
    g = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mb = {"obs": draw(rows, 5), "critic_obs": draw(rows, 7), "advantage": draw(rows), "value": draw(rows)}
    mb |= {"mean": 0.3 * draw(rows, 3), "std": torch.tensor([0.7, 0.8, 0.9], dtype=torch.float64).expand(rows, 3)}
    mb |= {"ret": mb["value"] + draw(rows), "u": mb["mean"] + mb["std"] * draw(rows, 3)}
    mb["log_prob"] = gsde.log_prob(mb["u"], mb["mean"], mb["std"])
    with torch.no_grad():
        agent.actor.mlp.linears()[-1].weight.mul_(200.0)
        agent.actor.log_std.copy_(torch.tensor([-0.3, 0.1, -0.1]))
    return agent, mb, cfg


@pytest.mark.parametrize("activation", sorted(fused.SLOPES))
def test_gradients_and_parts_are_those_of_autograd(activation: str) -> None:
    agent, mb, cfg = moved(activation)
    loss, expected = ppo.losses(agent, mb, cfg)
    loss.backward()
    assert 0.2 < float(expected["clip_fraction"]) < 0.97 and float(expected["mean_bound"]) > 0.1  # every part speaks
    nets = (agent.actor, agent.critic)
    wanted = {f"{i}.{name}": p.grad for i, net in enumerate(nets) for name, p in net.named_parameters()}
    for net in nets:
        fused.gather(net)
    parts = fused.gradients(agent.actor, agent.critic, mb, cfg)
    assert set(parts) == set(expected)
    torch.testing.assert_close(parts, expected, rtol=1e-10, atol=1e-12)
    got = {f"{i}.{name}": p.grad for i, net in enumerate(nets) for name, p in net.named_parameters()}
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_networks_without_a_closed_form_are_left_to_autograd() -> None:
    sizes = {"policy": 5, "action": 3}
    plain = ppo.make_agent(CONFIG, sizes)
    assert fused.fits(plain.actor, plain.critic)
    for other in (replace(CONFIG, exploration="gsde"), replace(CONFIG, activation="silu")):
        agent = ppo.make_agent(other, sizes)
        assert not fused.fits(agent.actor, agent.critic)


def test_an_update_is_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = replace(CONFIG, epochs=2, minibatches=4)

    def learnt() -> tuple[list[Tensor], dict[str, float]]:
        _, mb, _ = moved("elu")
        agent = ppo.make_agent(cfg, {"policy": 5, "critic": 7, "action": 3})
        said = ppo.update(agent, {name: x.float() for name, x in mb.items()}, cfg)
        return [*agent.actor.parameters(), *agent.critic.parameters()], said

    ours, said = learnt()
    monkeypatch.setattr(fused, "fits", lambda actor, critic: False)
    slow, expected = learnt()
    torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-5)
    assert said == pytest.approx(expected, rel=1e-4, abs=1e-5)
