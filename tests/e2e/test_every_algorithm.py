"""Every off-policy and imitating algorithm: its policy exports, passes check, drives the twin, and is tuned live there.

Each is trained for moments only: what is tested is that nothing on the way from one tool to the next is lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from robot_rl import zoo
from robot_rl.cli import finetune
from robot_rl.cli.main import main
from robot_rl.cli.run import load, make_site
from robot_rl.contract.golden import read_bundle
from robot_rl.data.episodes import read_episodes
from robot_rl.data.transition import Mode, Who
from robot_rl.learn import aprl, encoder, imitation, iql, pixels, presets, rlif, rlpd
from robot_rl.learn.offline_online import Config
from robot_rl.learn.overseer import Strategy
from robot_rl.learn.recipe import Prior, Recipe
from robot_rl.runtime import run as runner
from robot_rl.runtime.modes import Request

TASK = "cartpole_swingup"
LITTLE = {
    "hidden": (16, 16), "actor_hidden": (16, 16), "utd": 2, "batch": 32, "blocks_per_step": 0.1, "start_steps": 200,
    "log_every": 200, "total_steps": 400, "capacity": 2_000,
}  # fmt: skip
STRATEGY = Strategy("distance", threshold=0.2, hindsight=True)
CLONED = imitation.Config(
    strategy=STRATEGY, demos=1, rounds=1, episodes=1, pretrain_updates=5, round_updates=5, hidden=(16, 16),
)  # fmt: skip

SEEN = pixels.Config(
    rlpd=replace(pixels.LEARNER, critics=2, hidden=(16,), actor_hidden=(16,), batch=8, log_every=10, capacity=200),
    encoder=encoder.Config(channels=(4, 4), strides=(4, 2), features=8), offline_blocks=2, total_steps=20,
)  # fmt: skip


def by_preset(method: str) -> rlpd.Config:
    return replace(presets.preset(method, num_actions=1), **LITTLE)


RECIPES: dict[str, Callable[[], Recipe]] = {
    **{
        name: lambda name=name: Recipe(TASK, by_preset(name), "rlpd", num_envs=4)
        for name in ("sac", "redq", "droq", "rlpd")
    },
    "gsde": lambda: Recipe(TASK, replace(by_preset("rlpd"), exploration="gsde"), "rlpd", num_envs=4),
    "iql": lambda: Recipe(TASK, of_data(0), "iql", num_envs=4),
    "iql_rlpd": lambda: Recipe(TASK, of_data(300), "iql", num_envs=4),
    "rlif": lambda: Recipe(TASK, overseen("rlif"), "rlif", num_envs=4),
    "hil_serl": lambda: Recipe(TASK, overseen("hil_serl"), "rlif", num_envs=4),
    "aprl": lambda: Recipe(TASK, grown(), "aprl", num_envs=1),
    "pixels": lambda: Recipe(
        "panda_lift_pixels", SEEN, "pixels", num_envs=2, threads=1, prior=Prior(expert="panda_lift", demonstrations=1)
    ),
    **{
        name: lambda name=name: Recipe(TASK, replace(CLONED, method=name), "imitation", num_envs=4)
        for name in imitation.METHODS
    },
}
"""One small recipe for every algorithm."""


def of_data(total_steps: int) -> Config:
    offline = iql.Config(
        critics=2, hidden=(16, 16), layer_norm=True, actor_hidden=(16, 16), batch=32, updates=50, log_every=50,
        save_every=50,
    )  # fmt: skip
    online = replace(by_preset("droq"), dropout=0.0, start_std=0.2)
    return Config(offline=offline, online=online, total_steps=total_steps)


def overseen(method: str) -> rlif.Config:
    learner = replace(rlif.LEARNER, **{k: v for k, v in LITTLE.items() if k != "total_steps"})
    return rlif.Config(method=method, strategy=STRATEGY, rlpd=learner, demos=1, total_steps=3_200)


def grown() -> aprl.Config:
    learner = replace(aprl.LEARNER, **LITTLE, dropout=0.0)
    return aprl.Config(rlpd=learner, dynamics_hidden=(16, 16), hold_margin=0.2, total_steps=400)


def critics_of(recipe: Recipe) -> rlpd.Config | None:
    """Return settings whose critics are those that the recipe learns for the task's reward; None where it has none."""
    if isinstance(recipe.config, rlpd.Config):
        return recipe.config
    if isinstance(recipe.config, aprl.Config | pixels.Config):
        return recipe.config.rlpd
    return recipe.config.online if isinstance(recipe.config, Config) else None


@pytest.fixture(scope="module")
def elders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    """By algorithm, the option that names a run to learn from: an expert, or data."""
    folder = tmp_path_factory.mktemp("elders")
    with pytest.MonkeyPatch.context() as patch:
        in_zoo(patch, RECIPES["rlpd"](), "cartpole_data")
        assert main(["train", "cartpole_data", "--out", str(folder / "data"), "--no-progress"]) == 0
    words = ("cartpole_swingup_ppo", "--num-envs", "8", "--total-steps", "512", "--no-progress")
    assert main(["train", *words, "--out", str(folder / "expert")]) == 0
    expert, data = ("--teacher", str(folder / "expert")), ("--prior", str(folder / "data"))
    return {"rlpd": (), "aprl": (), "pixels": (), "iql": data, "rlif": expert, "imitation": expert}


def in_zoo(patch: pytest.MonkeyPatch, recipe: Any, name: str) -> None:
    """Let the zoo have ``recipe`` under ``name``."""
    module, find = type("Module", (), {"recipe": staticmethod(lambda: recipe)}), zoo.load
    patch.setattr(zoo, "load", lambda room, what: module if what == f"recipes/{name}" else find(room, what))


def tuning(task: str, policy: rlpd.Config) -> Any:
    """The recipe of fine-tuning with few updates and the critics of ``policy``."""
    recipe = replace(zoo.load("policies", "recipes/cartpole_tune_rlpd").recipe(), task=task)
    shape = {name: getattr(policy, name) for name in ("critics", "subset", "hidden", "layer_norm", "discount")}
    learning = replace(recipe.config.rlpd, warmup=0, batch=32, **shape)
    config = replace(
        recipe.config, rlpd=learning, first_transitions=100, offer_every_s=0.3, log_every=1, updates_per_s=60.0
    )  # fmt: skip
    return replace(recipe, config=config)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", RECIPES)
def test_from_recipe_to_robot_and_on(
    name: str, elders: dict[str, tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    recipe, run, store = RECIPES[name](), tmp_path / "run", tmp_path / "store"
    in_zoo(monkeypatch, recipe, f"little_{name}")
    words = [f"little_{name}", "--out", str(run), "--no-progress", *elders[recipe.algorithm]]
    assert main(["train", *words]) == 0
    policy = run / "policy.onnx"
    assert main(["check", str(policy), "--robot", zoo.load("sim", f"tasks/{recipe.task}").task().robot]) == 0
    knows = critics_of(recipe)
    in_zoo(monkeypatch, tuning(recipe.task, knows or rlpd.Config(critics=2, hidden=(16, 16))), "little_tune")
    driven = live(policy, store, tmp_path / "inbox", critics=run if knows else None)
    parent = read_bundle(policy)
    offers = sorted((tmp_path / "inbox").glob("policy_*.onnx"), key=lambda path: path.stat().st_mtime)
    assert len(offers) >= 2
    for path in offers:
        bundle = read_bundle(path)
        assert bundle.contract == parent.contract
        assert bundle.provenance["parent"] == parent.file_sha256
    rows = np.concatenate([episode.rows for episode in read_episodes(store)])
    assert len(np.unique(rows[rows["who"] == Who.POLICY]["policy"])) == 2  # its own, then the tuned one
    assert driven == read_bundle(offers[-1]).file_sha256


def live(policy: Path, store: Path, inbox: Path, *, critics: Path | None) -> str:
    """Let ``policy`` drive the twin while it is fine-tuned, take the last offer in; return who drives then."""
    robot, loaded = load(str(policy))
    site = make_site(loaded, robot, record=store, speed=8.0)
    loop, over = site.loop, threading.Event()
    thread = threading.Thread(target=lambda: runner.run(loop, over.is_set), daemon=True)
    thread.start()
    try:
        for request, there in ((Request.DAMP, Mode.DAMP), (Request.STAND, Mode.STAND), (Request.POLICY, Mode.POLICY)):
            wait(lambda request=request, there=there: ask(loop, request, there))
        args = finetune.Args(
            "little_tune", policy, store, inbox, critics=critics, max_updates=80, progress=False
        )  # fmt: skip
        assert finetune.run(args) == 0
        (final,) = inbox.glob("policy_final_*.onnx")
        loop.swap.offer(final)
        sha = read_bundle(final).file_sha256
        wait(lambda: loop.swap.live.bundle.file_sha256 == sha, loop)
        last = loop.latest.tick
        wait(lambda: loop.latest.tick > last + 20)
        return loop.swap.live.bundle.file_sha256
    finally:
        over.set()
        thread.join()


def ask(loop: Any, request: Request, there: Mode) -> bool:
    """Ask for a mode, once the robot is ready for it; return whether it is there."""
    if loop.status().mode is not there and (request is not Request.POLICY or loop.status().stood_up):
        loop.requests.ask(request, "test")
    return loop.status().mode is there


def wait(ready: Callable[[], bool], loop: Any = None) -> None:
    pause = threading.Event()
    for _ in range(2_000):
        if ready():
            return
        pause.wait(0.05)
    seen: list[Any] = []
    while loop is not None and (event := loop.events.take()) is not None:
        seen.append(event)
    raise TimeoutError(f"not within 100 s: {ready}; the loop says {seen[-10:]}")
