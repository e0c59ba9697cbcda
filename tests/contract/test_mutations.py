"""Every way to spoil a policy file is refused with its exact reason, by the same gate that a robot uses."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_rl.contract.golden import (
    KEY_CONTRACT,
    KEY_CONTRACT_SHA256,
    KEY_GOLDEN,
    KEY_GRAPH_SHA256,
    KEY_SCHEMA,
    KEYS,
    read_bundle,
)
from robot_rl.contract.model_file import parse_model, read_model_file, with_metadata
from robot_rl.contract.spec import Contract
from robot_rl.hardware.robot import Robot, load_robot
from robot_rl.runtime.policy import Policy
from tests.contract.strategies import POLICIES

TINY = POLICIES / "go2_tiny.onnx"
DATA = TINY.read_bytes()
BUNDLE = read_bundle(TINY)
CONTRACT = BUNDLE.contract
GO2 = load_robot("go2")

Edit = Callable[[dict[str, Any]], object]


def spoil(path: Path, *, contract: Edit | None = None, golden: Edit | None = None, sign: bool = True) -> Path:
    """Write a copy of the tiny policy with edited JSON; ``sign`` makes the contract's hash fit again."""
    metadata = read_model_file(TINY).metadata
    for key, edit in ((KEY_CONTRACT, contract), (KEY_GOLDEN, golden)):
        if edit is not None:
            raw = json.loads(metadata[key])
            edit(raw)
            metadata[key] = json.dumps(raw)
    if sign:
        metadata[KEY_CONTRACT_SHA256] = Contract.from_json(metadata[KEY_CONTRACT]).fingerprint
    path.write_bytes(with_metadata(DATA, metadata))
    return path


def reason(path: Path, robot: Robot = GO2) -> str:
    with pytest.raises(ValueError) as error:
        Policy.load(path, robot)
    return str(error.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.onnx"


def swap_names(a: int, b: int) -> Edit:
    def edit(raw: dict[str, Any]) -> None:
        raw["joints"][a], raw["joints"][b] = raw["joints"][b], raw["joints"][a]

    return edit


def swap_rows(a: int, b: int) -> Edit:
    """Exchange two joints with all that belongs to them: the contract is right again, the network is not."""

    def edit(raw: dict[str, Any]) -> None:
        rows = [raw["joints"], raw["stiffness"], raw["damping"], raw["action"]["scale"], raw["action"]["offset"]]
        for row in [*rows, *raw["limits"].values()]:
            row[a], row[b] = row[b], row[a]

    return edit


def test_the_unspoilt_file_is_accepted(path: Path) -> None:
    assert Policy.load(spoil(path), GO2).contract == CONTRACT


@pytest.mark.parametrize(("a", "b"), list(combinations(range(12), 2)))
@pytest.mark.parametrize("swap", [swap_names, swap_rows])
def test_two_joints_swapped_in_a_recomputed_contract(path: Path, a: int, b: int, swap: Callable[..., Edit]) -> None:
    why = reason(spoil(path, contract=swap(a, b)))
    now = (CONTRACT.joints[b], CONTRACT.joints[a])
    assert f"joints {now[0]!r} and {now[1]!r} are exchanged in the contract" in why


def test_two_joints_swapped_without_a_new_hash(path: Path) -> None:
    assert "the contract was changed after export" in reason(spoil(path, contract=swap_names(0, 1), sign=False))


@pytest.mark.parametrize(("index", "rounded"), [(0, 0.217), (2, 0.333)])
def test_an_action_scale_rounded_to_three_digits(path: Path, index: int, rounded: float) -> None:
    exact = CONTRACT.action.scale[index]
    why = reason(spoil(path, contract=lambda raw: raw["action"]["scale"].__setitem__(index, rounded)))
    joint = CONTRACT.joints[index]
    assert f"action scale of joint {joint!r} is {rounded!r} in the contract" in why
    assert f"made with {exact:.7g}" in why


def test_every_float_written_with_three_digits(path: Path) -> None:
    """What ``"%.3f"`` metadata does to a contract."""

    def edit(raw: dict[str, Any]) -> None:
        for name in ("scale", "offset"):
            raw["action"][name] = [float(f"{x:.3f}") for x in raw["action"][name]]

    assert "action scale of joint 'FR_hip_joint' is 0.217 in the contract" in reason(spoil(path, contract=edit))


def test_another_scale_of_an_observation(path: Path) -> None:
    why = reason(spoil(path, contract=lambda raw: raw["obs"][4]["scale"].__setitem__(3, 0.0501)))
    assert "observation term 'joint_vel_rel', joint 'FL_hip_joint'" in why
    assert "scales by 0.0501, the golden vectors were made with 0.05" in why


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (
            lambda raw: raw["stiffness"].__setitem__(4, 29.9),
            "stiffness of joint 'FL_thigh_joint' is 29.9 in the contract",
        ),
        (lambda raw: raw["damping"].__setitem__(0, 1), "damping of joint 'FR_hip_joint' is 1.0 in the contract"),
        (lambda raw: raw["action"]["offset"].__setitem__(0, 0.0), "action offset of joint 'FR_hip_joint' is 0.0"),
        (
            lambda raw: raw["action"].update(clip=[-1.2, 1.2]),
            "action clip is (-1.2, 1.2) in the contract",
        ),
        (lambda raw: raw["action"].update(kind="joint_position_relative"), "made with 'joint_position'"),
        (lambda raw: raw["obs"].reverse(), "observation term 'last_action'"),
        (lambda raw: raw["obs"][0].update(clip=[-0.1, 0.1]), "observation term 'base_ang_vel'"),
        (lambda raw: raw.update(task="go2_jump"), "the contract was changed and signed again after export"),
        (lambda raw: raw["limits"]["vel"].__setitem__(0, 30.0), "the contract was changed and signed again"),
        (lambda raw: raw.update(imu_frame="base"), "orientation was trained in frame 'base'; the robot gives 'imu'"),
        (lambda raw: raw["limits"]["effort"].__setitem__(2, 99.0), "FR_calf_joint 99 (robot 45.43)"),
    ],
)
def test_any_other_edit_of_a_contract_that_was_signed_again(path: Path, edit: Edit, expected: str) -> None:
    assert expected in reason(spoil(path, contract=edit))


@pytest.mark.parametrize(("policy", "robot"), [("cartpole_tiny", "go2"), ("go2_tiny", "cartpole")])
def test_another_robots_policy(policy: str, robot: str) -> None:
    why = reason(POLICIES / f"{policy}.onnx", load_robot(robot))
    trained = policy.removesuffix("_tiny")
    assert f"the policy was trained for robot {trained!r}; this is {robot!r}" in why


def test_a_joint_missing_on_the_robot() -> None:
    cut = {f.name: getattr(GO2, f.name) for f in dataclasses.fields(Robot)}
    cut = {name: x[:11] if isinstance(x, tuple) and len(x) == 12 else x for name, x in cut.items()}
    cut["safety"] = dataclasses.replace(GO2.safety, target_rate=GO2.safety.target_rate[:11])
    why = reason(TINY, Robot(**cut | {"symmetry": None}))
    assert "the robot lacks ['RL_calf_joint'], the policy lacks []" in why
    assert str(list(CONTRACT.joints)) in why


def test_a_joint_missing_in_the_contract(path: Path) -> None:
    def edit(raw: dict[str, Any]) -> None:
        rows = [raw["joints"], raw["stiffness"], raw["damping"], raw["action"]["scale"], raw["action"]["offset"]]
        for row in [*rows, *raw["limits"].values(), *(term["scale"] for term in raw["obs"][3:])]:
            row.pop()
        for term in raw["obs"][3:]:
            term["size"] = 11

    why = reason(spoil(path, contract=edit))
    assert "the network takes {'obs': (1, 45)}; the contract needs {'obs': (1, 42)}" in why


def test_a_joint_under_another_name(path: Path) -> None:
    why = reason(spoil(path, contract=lambda raw: raw["joints"].__setitem__(0, "FR_hip")))
    assert "know no joints ['FR_hip'] of the contract, the contract knows no joints ['FR_hip_joint']" in why


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (60.0, "wrong rate: the golden vectors were recorded at 50 Hz, the contract says 60 Hz"),
        (50.001, "wrong rate: the golden vectors were recorded at 50 Hz, the contract says 50.001 Hz"),
    ],
)
def test_a_wrong_rate(path: Path, rate: float, expected: str) -> None:
    assert expected in reason(spoil(path, contract=lambda raw: raw.update(rate_hz=rate)))


def test_scalar_first_quaternions_in_the_golden_vectors(path: Path) -> None:
    def edit(raw: dict[str, Any]) -> None:
        raw["states"]["quat_xyzw"] = [[w, x, y, z] for x, y, z, w in raw["states"]["quat_xyzw"]]

    why = reason(spoil(path, golden=edit))
    assert "wrong quaternion order: the golden vectors match when their orientations are read as wxyz" in why


def test_a_contract_that_asks_for_scalar_first_quaternions(path: Path) -> None:
    why = reason(spoil(path, contract=lambda raw: raw.update(quat_order="wxyz"), sign=False))
    assert "quat_order is 'wxyz'; robot_rl contracts are 'xyzw' only" in why


@pytest.mark.parametrize("share", [0.0, 1e-4, 1e-3, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.9999])
def test_a_truncated_file(path: Path, share: float) -> None:
    kept = int(len(DATA) * share)
    path.write_bytes(DATA[:kept])
    why = reason(path)
    assert ("is truncated" in why) if kept else ("is empty (0 bytes)" in why)


def test_a_file_cut_anywhere_is_never_accepted() -> None:
    for kept in [*range(0, 4000, 7), *range(4000, len(DATA), 131), *range(len(DATA) - 300, len(DATA))]:
        with pytest.raises(ValueError, match=r"truncated|empty|no robot_rl contract"):
            model = parse_model(DATA[:kept], TINY)
            missing = [key for key in KEYS if key not in model.metadata]  # cut between two records
            raise ValueError("truncated" if missing else f"accepted {kept} of {len(DATA)} bytes")


def test_a_file_cut_between_two_metadata_entries(path: Path) -> None:
    metadata = read_model_file(TINY).metadata
    kept = {key: metadata[key] for key in list(metadata)[:-1]}
    path.write_bytes(with_metadata(DATA, kept))
    assert f"lacks the metadata ['{KEY_GRAPH_SHA256}']; the file is truncated or was edited" in reason(path)


def changed_weight() -> bytes:
    at = DATA.rindex(b"bias_2\x4a") + len(b"bias_2\x4a") + 1  # the name, the tag of raw_data and its length
    value = struct.unpack_from("<f", DATA, at)[0]
    return DATA[:at] + struct.pack("<f", value + 0.01) + DATA[at + 4 :]


def test_weights_changed_after_export(path: Path) -> None:
    path.write_bytes(changed_weight())
    assert "the network or its weights were changed after export" in reason(path)


def test_weights_changed_after_export_and_signed_again(path: Path) -> None:
    spoilt = parse_model(changed_weight(), TINY)
    path.write_bytes(with_metadata(changed_weight(), spoilt.metadata | {KEY_GRAPH_SHA256: spoilt.graph_sha256}))
    why = reason(path)
    assert "the network does not reproduce its golden actions: step 0, joint 'FR_hip_joint'" in why


def test_no_contract_at_all(path: Path) -> None:
    path.write_bytes(with_metadata(DATA, {"joint_names": "a,b"}))
    assert "carries no robot_rl contract (its metadata: ['joint_names'])" in reason(path)
    path.write_bytes(with_metadata(DATA, {}))
    assert "carries no robot_rl contract (its metadata: none)" in reason(path)


@pytest.mark.parametrize(
    "content", [b"not a model", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"PK\x03\x04" + bytes(99), b"\0" * 64]
)
def test_a_file_that_is_no_model(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert str(path) in reason(path)


def test_another_schema_version(path: Path) -> None:
    path.write_bytes(with_metadata(DATA, read_model_file(TINY).metadata | {KEY_SCHEMA: "2"}))
    assert "robot_rl.schema_version is '2'; this version reads '1'" in reason(path)


@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_one_flipped_bit_never_changes_network_or_contract(at: int, bit: int) -> None:
    path = TINY.with_name("flipped.onnx")
    spoilt = bytearray(DATA)
    spoilt[at] ^= 1 << bit
    try:
        model = parse_model(bytes(spoilt), path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    contract = model.metadata.get(KEY_CONTRACT, "")
    assert (
        model.graph_sha256 != model.metadata.get(KEY_GRAPH_SHA256)
        or model.metadata.get(KEY_CONTRACT_SHA256) != CONTRACT.fingerprint
        or contract != CONTRACT.to_json()
        or (model.graph_sha256, contract) == (BUNDLE.graph_sha256, CONTRACT.to_json())
    )
