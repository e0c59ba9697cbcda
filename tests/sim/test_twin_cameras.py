"""A policy that sees drives the twin: what it saw is recorded, repeats its actions, and a lost camera ends its turn."""

from __future__ import annotations

import ctypes.util
import dataclasses
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco.batch")

from robot_rl.cli import eval as evaluating
from robot_rl.cli.main import main
from robot_rl.cli.run import Site, make_site
from robot_rl.contract.spec import Contract, ImageTerm
from robot_rl.data.episodes import read_episodes
from robot_rl.data.labels import Labelled, load_labels
from robot_rl.data.rewards import judged_reward
from robot_rl.data.transition import Mode
from robot_rl.hardware.camera import Frame
from robot_rl.hardware.mirror import Failure, MirrorDriver
from robot_rl.hardware.robot import load_robot
from robot_rl.learn import encoder, rlpd, success
from robot_rl.learn.export import Provenance, export_policy
from robot_rl.learn.pixels import Config, make_seer
from robot_rl.learn.success_file import export_judge
from robot_rl.runtime import run as runner
from robot_rl.runtime.eyes import Eyes
from robot_rl.runtime.modes import Request
from robot_rl.runtime.policy import Policy
from robot_rl.runtime.repeat import repeat_actions
from robot_rl.runtime.shield import Reason
from robot_rl.runtime.verdict import Verdict, look_at
from robot_rl.sim.twin import Twin
from robot_rl.zoo import load

pytestmark = pytest.mark.skipif(
    not any(ctypes.util.find_library(name) for name in ("OSMesa", "EGL")), reason="neither OSMesa nor EGL is installed"
)
PANDA = load_robot("panda")
CAMERAS = (ImageTerm("wrist", 16, 24), ImageTerm("front", 16, 24))


def contract() -> Contract:
    return dataclasses.replace(load("sim", "tasks/panda_lift_pixels").task(), cameras=CAMERAS).contract(PANDA)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that was never trained: its actions move the arm, and depend on every picture."""
    eyes = encoder.Config(channels=(4, 4), strides=(2, 2), features=6)
    cfg = Config(rlpd=rlpd.Config(critics=2, hidden=(16,), actor_hidden=(16,)), encoder=eyes)
    policy = make_seer(cfg, obs_size=contract().obs_size, num_actions=8, shape=(16, 24, 6)).actor
    path = tmp_path_factory.mktemp("policy") / "sees.onnx"
    export_policy(policy, contract(), path, provenance=Provenance("panda_lift_pixels", seed=0, steps=1))
    return path


@pytest.fixture
def site(path: Path, tmp_path: Path) -> Generator[Site]:
    site = make_site(Policy.load(path, PANDA), PANDA, record=tmp_path / "store", speed=1e6, seed=3)
    loop = site.loop
    loop.driver.connect()
    loop.eyes.connect()
    assert loop.recorder is not None
    loop.recorder.start()
    yield site
    loop.recorder.close()
    loop.eyes.close()
    loop.driver.close()


def drive(site: Site, seconds: float, ask: Request | None = None) -> Mode:
    if ask is not None:
        site.loop.requests.ask(ask)
    for _ in range(round(seconds / site.loop.clock.period_s)):
        site.loop.tick()
        site.loop.clock.wait()
    return site.loop.situation.mode


def start(site: Site, seconds: float = 2.0) -> Twin:
    for wait, ask in ((0.5, Request.DAMP), (4.0, Request.STAND), (seconds, Request.POLICY)):
        mode = drive(site, wait, ask)
    assert mode is Mode.POLICY
    assert isinstance(site.loop.driver, Twin)
    return site.loop.driver


def person(site: Site, seconds: float) -> Mode:
    """Let a person take over and hold the arm still."""
    site.loop.requests.ask(Request.TAKEOVER)
    for _ in range(round(seconds / site.loop.clock.period_s)):
        site.loop.requests.human(np.zeros(8))
        drive(site, site.loop.clock.period_s)
    return site.loop.situation.mode


def refusals(site: Site) -> list[str]:
    """Return why requests were refused since the last time."""
    found: list[str] = []
    while (event := site.loop.events.take()) is not None:
        found += [event["reason"]] if event["event"] == "request_refused" else []
    return found


def test_what_it_saw_is_recorded_and_repeats_its_actions_to_the_bit(site: Site, tmp_path: Path) -> None:
    start(site)
    drive(site, 0.2, Request.DAMP)
    site.loop.recorder.close()  # type: ignore[union-attr]
    (episode,) = read_episodes(tmp_path / "store")
    rows = episode.rows[episode.rows["mode"] == Mode.POLICY]
    assert len(rows) == 20
    for name in ("pixels_wrist", "pixels_front"):
        pictures = rows[name]
        assert pictures.shape == (20, 16, 24, 3) and pictures.dtype == np.uint8
        assert pictures[0].std() > 10.0, "there is something to see"
        assert (pictures[1:] != pictures[:-1]).any(axis=(1, 2, 3)).any(), "the arm moves"
    policy = site.loop.swap.live
    np.testing.assert_array_equal(repeat_actions(policy, rows, episode.events), rows["policy_action"])
    blacked = rows.copy()
    blacked["pixels_front"] = 0
    assert np.abs(repeat_actions(policy, blacked, episode.events) - rows["policy_action"]).max() > 1e-3


def test_a_lost_camera_ends_the_policys_turn_and_nobody_elses(site: Site, tmp_path: Path) -> None:
    twin, timeout_s = start(site), site.loop.config.camera_timeout_s
    twin.fail(Failure.BLIND)
    assert drive(site, timeout_s - 0.1) is Mode.POLICY, "a late picture is no lost camera"
    assert drive(site, 0.3) is Mode.DAMP
    assert site.loop.situation.fault & Reason.CAMERA_LOST
    assert drive(site, 4.0, Request.STAND) is Mode.STAND, "standing needs no eyes"
    refusals(site)
    assert drive(site, 0.2, Request.POLICY) is Mode.STAND
    assert refusals(site) == ["POLICY must wait: CAMERA_LOST"]
    twin.heal()
    drive(site, 0.1)
    assert drive(site, 0.5, Request.POLICY) is Mode.POLICY
    twin.fail(Failure.BLIND)
    assert person(site, timeout_s + 0.5) is Mode.TAKEOVER, "a person has eyes of their own"
    assert drive(site, 0.1, Request.POLICY) is Mode.TAKEOVER, "and keeps the arm while the policy has none"
    site.loop.recorder.close()  # type: ignore[union-attr]
    first, _ = read_episodes(tmp_path / "store")
    assert first.rows["truncated"][-1] and not (first.rows["reasons"] & Reason.CAMERA_LOST).any()
    assert first.rows["stamp_s"][-1] - first.rows["stamp_s"][0] == pytest.approx(1.9 + timeout_s, abs=0.15)


def test_an_exchange_is_shadowed_by_what_the_live_policy_sees(site: Site, path: Path, tmp_path: Path) -> None:
    start(site, 0.5)
    eyes = encoder.Config(channels=(4, 4), strides=(2, 2), features=6)
    cfg = Config(rlpd=rlpd.Config(critics=2, hidden=(16,), actor_hidden=(16,), seed=1), encoder=eyes, seed=1)
    other = make_seer(cfg, obs_size=contract().obs_size, num_actions=8, shape=(16, 24, 6)).actor
    bundle = export_policy(
        other, contract(), tmp_path / "next.onnx", provenance=Provenance("panda_lift_pixels", seed=1, steps=1)
    )
    site.loop.swap.offer(bundle.path)
    for _ in range(200):
        drive(site, 0.1)
        if site.loop.swap.live.bundle.file_sha256 == bundle.file_sha256:
            break
    live, latest = site.loop.swap.live, site.loop.latest
    assert live.bundle.file_sha256 == bundle.file_sha256
    assert live.infer(site.loop._obs, pictures=site.loop.eyes.pictures).tolist() == pytest.approx(
        latest.action.tolist(), abs=1e-6
    )


def test_a_judge_looks_at_what_the_policy_sees_now_and_in_the_recording(site: Site, tmp_path: Path) -> None:
    """It was taught to call bright pictures a success; here they are what the arm sees."""
    noise = np.random.default_rng(0).integers(0, 100, (200, 16, 24, 3), dtype=np.uint8)
    noise[::2] += 100
    bright = Labelled(
        noise, np.arange(200) % 2 == 0, np.arange(200) // 4, "pixels/front", "panda_lift_pixels", "f" * 64
    )
    judge = export_judge(success.train(bright, success.Config(updates=60)), bright, tmp_path / "judge.onnx")
    start(site, 1.0)
    loop = site.loop
    look = look_at(loop, judge)
    seen = look()
    assert seen is not None and np.array_equal(seen, loop.eyes.pictures["pixels/front"][0])
    verdict = Verdict(loop, judge, look, patience=1)
    assert verdict.poll() == bool(judge.success(seen[None])[0])
    drive(site, 0.2, Request.DAMP)
    assert loop.recorder is not None
    loop.recorder.close()
    rows = np.concatenate([episode.rows for episode in read_episodes(tmp_path / "store")])
    paid = judged_reward(judge, contract())(rows[:-1], rows[1:])
    assert paid.tolist() == judge.success(rows["pixels_front"][1:]).astype(float).tolist()
    words = ["label", str(tmp_path / "store"), "--out", str(tmp_path / "labels.npz"), "--camera", "front"]
    assert main([*words, "--success", "0:2-4"]) == 0
    assert np.array_equal(load_labels(tmp_path / "labels.npz").inputs, rows["pixels_front"])
    other = replace(bright, source="pixels/side")
    stranger = export_judge(success.train(other, success.Config(updates=1)), other, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match=r"looks at 'pixels/side', .* the policy's cameras show .*pixels/front"):
        look_at(loop, stranger)
    with pytest.raises(ValueError, match=r"looks at 'pixels/side', .* recorded rows hold .*pixels/front"):
        judged_reward(stranger, contract())


def test_eval_shows_it_what_each_copy_sees(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = evaluating.Args(str(path), task="panda_lift_pixels", episodes=2, threads=1, json=True)
    assert evaluating.run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["episodes"] == 2 and 0.0 <= told["success_rate"] <= 1.0


class Still:
    """A camera at a desk."""

    def __init__(self, name: str = "wrist", height: int = 16, width: int = 24, rows: int = 16) -> None:
        self.name, self.height, self.width = name, height, width
        self.stamp_s, self.image, self.there = 0.0, np.full((rows, width, 3), 7, np.uint8), True

    def connect(self) -> None: ...

    def read(self) -> Frame:
        if not self.there:
            raise ConnectionError("unplugged")
        return Frame(self.stamp_s, self.image)

    def close(self) -> None: ...


def test_a_camera_that_cannot_open_leaves_the_robot_damped_and_its_link_closed(path: Path, tmp_path: Path) -> None:
    site = make_site(Policy.load(path, PANDA), PANDA, record=tmp_path / "store", speed=1e6)
    loop, sent = site.loop, []
    write = loop.driver.write
    loop.driver.write = lambda target: sent.append(target) or write(target)  # type: ignore[method-assign]

    def unplugged() -> None:
        raise ConnectionError("no camera")

    loop.eyes.connect = unplugged  # type: ignore[method-assign]
    with pytest.raises(ConnectionError, match="no camera"):
        runner.run(loop, lambda: True)
    assert len(sent) == 1 and not sent[0].stiffness.any() and sent[0].damping.all()
    with pytest.raises(ConnectionError, match="is not connected"):
        loop.driver.read()


def test_eyes_keep_the_last_good_picture_of_a_lost_camera() -> None:
    camera = Still()
    eyes = Eyes(CAMERAS[:1], [camera], timeout_s=0.5)
    eyes.look(0.4)
    assert not eyes.lost and (eyes.pictures["pixels/wrist"] == 7).all()
    camera.image = np.full((16, 24, 3), 9, np.uint8)
    eyes.look(0.6)
    assert eyes.lost and (eyes.pictures["pixels/wrist"] == 7).all()
    camera.stamp_s = 0.6
    camera.there = False
    eyes.look(0.6)
    assert eyes.lost
    camera.there = True
    eyes.look(0.6)
    assert not eyes.lost and (eyes.pictures["pixels/wrist"] == 9).all()
    camera.image = np.zeros((24, 16, 3), np.uint8)
    eyes.look(0.6)
    assert eyes.lost and eyes.pictures["pixels/wrist"].shape == (1, 16, 24, 3)


def test_what_cannot_see_is_refused(path: Path) -> None:
    policy = Policy.load(path, PANDA)
    with pytest.raises(ValueError, match=r"sees through \['wrist', 'front'\]; the mirror has no cameras"):
        make_site(policy, PANDA, driver="mirror")
    with pytest.raises(ValueError, match=r"sees through camera 'front'; the robot has \['wrist'\]"):
        Eyes(CAMERAS, [Still()], timeout_s=0.5)
    with pytest.raises(ValueError, match="'wrist' gives pictures of 32 x 16; the policy sees 24 x 16"):
        Eyes(CAMERAS[:1], [Still(width=32)], timeout_s=0.5)
    from robot_rl.runtime.clock import SimClock
    from robot_rl.runtime.loop import ControlLoop

    clock = SimClock(policy.contract.rate_hz)
    with pytest.raises(ValueError, match="sees through camera 'wrist'"):
        ControlLoop(MirrorDriver(PANDA, now=clock.now_s), policy, clock)
