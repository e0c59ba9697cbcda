"""What a world with cameras must do; each function runs in a process of its own, for MuJoCo chooses its GL once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robot_rl import zoo
from robot_rl.contract.spec import Contract, ImageTerm
from robot_rl.sim.backends import make_physics
from robot_rl.sim.task import Task
from robot_rl.sim.world import World

FRONT, WRIST = ImageTerm("front", 24, 32), ImageTerm("wrist", 16, 16)


def lift(**changes: object) -> Task:
    """Return a lift of three steps, seen by two cameras."""
    task = zoo.load("sim", "tasks/panda_lift").task()
    return dataclasses.replace(task, **({"cameras": (FRONT, WRIST), "episode_s": 0.3} | changes))


def make(task: Task, n: int = 2) -> World:
    return World(task, make_physics(task, num_envs=n, threads=1), seed=3)


def pictures_show_the_state_of_their_moment() -> None:
    """The successor of the last step is drawn before the reset, and what is acted on next after it."""
    world = make(lift())
    from robot_rl.sim.cameras import Cameras  # imports MuJoCo: not before the world has chosen a GL

    eyes = Cameras(world.physics, ("front",), height=24, width=32)
    obs = world.reset()
    assert {name: (x.shape, x.dtype.name) for name, x in obs.items() if name != "policy"} == {
        "pixels/front": ((2, 24, 32, 3), "uint8"),
        "pixels/wrist": ((2, 16, 16, 3), "uint8"),
    }
    assert world.obs_sizes == {"policy": world.contract.obs_size}, "pictures are no numbers to join"
    for i in range(4):
        step = world.step(np.full((2, world.num_actions), 0.5))
        assert np.array_equal(eyes.look()["front"], step.obs["pixels/front"])
        ended = bool(step.truncated.all())
        assert ended == (i == 2)
        assert ended == (step.obs is not step.next_obs)
        if ended:
            moved = step.next_obs["pixels/front"] != step.obs["pixels/front"]
            assert moved.any(axis=(1, 2, 3)).all(), "the arm has moved, and jumps back"


def only_the_copy_that_ended_is_drawn_anew() -> None:
    world = make(lift(dones={"first": lambda o: np.array([1.0, 0.0])}))
    world.reset()
    step = world.step(np.full((2, world.num_actions), 0.5))
    for name in ("pixels/front", "pixels/wrist"):
        same = (step.obs[name] == step.next_obs[name]).all(axis=(1, 2, 3))
        assert same.tolist() == [False, True], name


def the_same_seed_gives_the_same_pictures_and_a_restored_world_goes_on() -> None:
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (5, 2, 8))
    one, two = make(lift()), make(lift())
    one.reset()
    two.reset()
    for action in actions[:2]:
        one.step(action)
        two.step(action)
    three = make(lift())
    three.reset()
    three.restore(two.snapshot())
    for action in actions[2:]:
        seen = [world.step(action).obs for world in (one, two, three)]
        for name, pictures in seen[0].items():
            assert np.array_equal(pictures, seen[1][name]) and np.array_equal(pictures, seen[2][name]), name
    blind, sighted = make(lift(cameras=())), make(lift())
    blind.reset()
    sighted.reset()
    for action in actions:
        a, b = blind.step(action), sighted.step(action)
        assert list(a.obs) == ["policy"], "who asks for no camera gets none"
        assert np.array_equal(a.obs["policy"], b.obs["policy"]) and np.array_equal(a.reward, b.reward)


def a_contract_carries_the_cameras_and_a_policys_own_are_rendered() -> None:
    world = make(lift())
    contract = Contract.from_json(world.contract.to_json())
    assert contract.images == (FRONT, WRIST)
    assert contract.fingerprint != make(lift(cameras=())).contract.fingerprint
    plain = lift(cameras=())
    other = World(
        plain, make_physics(dataclasses.replace(plain, cameras=(WRIST,)), num_envs=1), seed=0, contract=contract
    )
    assert set(other.reset()) == {"policy", "pixels/front", "pixels/wrist"}


def what_cannot_see_is_refused() -> None:
    task = lift()
    with pytest.raises(ValueError, match=r"cameras \['front', 'wrist'\], which physics 'isaac' does not render"):
        make_physics(dataclasses.replace(task, objects={}, obs={}), num_envs=1, physics="isaac")
    with pytest.raises(ValueError, match=r"no cameras \['top'\] on robot 'panda'; it has \['front', 'side', 'wrist'\]"):
        make(lift(cameras=(ImageTerm("top", 8, 8),)))
    with pytest.raises(ValueError, match="contract lists a camera twice"):
        make(lift(cameras=(FRONT, FRONT)))

    class Blind:
        """A backend without eyes."""

        def __init__(self) -> None:
            self.real = make_physics(task, num_envs=1)

        def __getattr__(self, name: str) -> object:
            if name == "views":
                raise AttributeError(name)
            return getattr(self.real, name)

    with pytest.raises(ValueError, match=r"cameras \['front', 'wrist'\] are asked for, which physics Blind cannot"):
        World(task, Blind(), seed=0)  # pyright: ignore[reportArgumentType]


def demonstrations_keep_the_pictures_of_their_transitions() -> None:
    """Acted out again by the same expert from the same seed, every transition shows what was seen."""
    from robot_rl.data.pictures import side_by_side
    from robot_rl.sim.demonstrations import demonstrate
    from robot_rl.sim.expert import load_expert

    task = dataclasses.replace(zoo.load("sim", "tasks/panda_lift_pixels").task(), cameras=(WRIST,))
    shown = demonstrate(task, "panda_lift", episodes=2, seed=3, num_envs=1)
    assert shown.pictures is not None and len(shown.pictures) == len(shown.replay) > 10
    numbers = shown.pictures.rows.split(shown.pictures.rows.rows[: len(shown.pictures)])
    plain = shown.replay.split(shown.replay.rows[: len(shown.replay)])
    world = make(task, 1)
    act, obs = load_expert("panda_lift", world.contract, world.robot), world.reset()
    for i in range(len(shown.pictures)):
        for name in ("obs", "next_obs"):
            assert np.array_equal(numbers[name][i, :-1], plain[name][i])
        step = world.step(np.clip(act(world.state), -1, 1))
        for name, seen in (("obs", obs), ("next_obs", step.next_obs)):
            assert np.array_equal(numbers[name][i, :-1], seen["policy"][0])
            assert np.array_equal(shown.pictures.at(numbers[name][i, -1:]), side_by_side(seen))
        obs = step.obs
    assert not set(task.obs) & {"object_pos", "object_axes", "tool_to_object"}
