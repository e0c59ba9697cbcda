"""The contract as JSON: nothing is lost, and what is wrong is named."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given

from robot_rl.contract.golden import read_bundle
from robot_rl.contract.spec import Contract, ObsTerm
from tests.contract.strategies import POLICIES, contracts

CONTRACT = read_bundle(POLICIES / "go2_tiny.onnx").contract


@given(contracts())
def test_json_and_back_is_the_same_contract_with_the_same_fingerprint(contract: Contract) -> None:
    again = Contract.from_json(contract.to_json())
    assert again == contract
    assert again.to_json() == contract.to_json()
    assert again.fingerprint == contract.fingerprint


@given(contracts())
def test_the_fingerprint_does_not_depend_on_layout_or_key_order(contract: Contract) -> None:
    raw = json.loads(contract.to_json())
    shuffled = json.dumps(dict(reversed(list(raw.items()))), indent=2)
    assert Contract.from_json(shuffled).fingerprint == contract.fingerprint


def test_the_last_digit_of_a_scale_changes_the_fingerprint() -> None:
    scale = (CONTRACT.action.scale[0] + 1e-16, *CONTRACT.action.scale[1:])
    assert scale != CONTRACT.action.scale
    action = dataclasses.replace(CONTRACT.action, scale=scale)
    assert dataclasses.replace(CONTRACT, action=action).fingerprint != CONTRACT.fingerprint


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("rate_hz",), "50", "contract.rate_hz is '50'; expected float"),
        (("rate_hz",), 0.0, "rate_hz is 0.0; it must be positive"),
        (("rate_hz",), True, "contract.rate_hz is True; expected float"),
        (("chunk",), 1.5, "contract.chunk is 1.5; expected int"),
        (("joints",), "FR", "contract.joints is 'FR'; expected tuple"),
        (("joints",), ["a"] * 12, "contract names joints twice: ['a']"),
        (("joints",), [], "contract names no joints"),
        (("stiffness",), [1.0], "stiffness has 1 numbers; expected 12"),
        (("action", "scale"), [0.25] * 11, "action.scale has 11 numbers; expected 12"),
        (("action", "kind"), "jump", "action kind is 'jump'; the choices are"),
        (("action", "scale", 3), 0.0, "action.scale of joint 'FL_hip_joint' is 0"),
        (("action", "clip"), [1.0, 1.0], "action.clip is (1.0, 1.0); low must be below high"),
        (("limits", "pos_low", 0), 9.0, "limits of joint 'FR_hip_joint' range from 9.0 to 1.0472"),
        (("action", "clip"), [1.0], "contract.action.clip is [1.0]; expected two numbers"),
        (("obs", 1, "scale"), [1.0], "scale of obs term 'projected_gravity' has 1 numbers; expected 3"),
        (("obs", 1, "history"), 0, "obs term 'projected_gravity' history is 0; it must be positive"),
        (
            ("obs", 1, "clip"),
            [1.0, -1.0],
            "clip of obs term 'projected_gravity' is (1.0, -1.0); low must",
        ),
        (("obs", 1, "name"), "base_ang_vel", "contract lists an observation term twice"),
        (("quat_order",), "wxyz", "quat_order is 'wxyz'; robot_rl contracts are 'xyzw' only"),
        (("schema",), 2, "contract schema is 2; this version reads 1"),
        (("limits", "vel"), None, "contract.limits.vel is None; expected Floats"),
        (("command", "low"), [2.0, -1.0, -1.0], "command 'lin_vel_x' ranges from 2.0 to 1.0"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(path: tuple[Any, ...], value: Any, reason: str) -> None:
    raw = json.loads(CONTRACT.to_json())
    place = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ValueError) as error:
        Contract.from_json(json.dumps(raw))
    assert reason in str(error.value)


def test_missing_and_unknown_fields_are_listed() -> None:
    raw = json.loads(CONTRACT.to_json())
    del raw["rate_hz"]
    with pytest.raises(ValueError, match=r"contract lacks the fields \['rate_hz'\]"):
        Contract.from_json(json.dumps(raw))
    raw |= {"rate_hz": 50.0, "rate": 50.0}
    with pytest.raises(ValueError, match=r"contract has unknown fields \['rate'\]; the fields are \['action'"):
        Contract.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"robot": NaN}', "[" * 100_000])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="contract"):
        Contract.from_json(text)


def test_infinity_cannot_enter_by_json() -> None:
    text = CONTRACT.to_json().replace('"rate_hz":50.0', '"rate_hz":Infinity')
    with pytest.raises(ValueError, match=r"contract\.rate_hz is inf"):
        Contract.from_json(text)


def test_integers_in_json_become_floats_where_floats_are_meant() -> None:
    text = CONTRACT.to_json().replace('"rate_hz":50.0', '"rate_hz":50')
    assert Contract.from_json(text).fingerprint == CONTRACT.fingerprint


def test_an_observation_term_is_as_wide_as_its_history() -> None:
    assert ObsTerm("base_ang_vel", 3, (1.0,) * 3, history=5).width == 15
    assert CONTRACT.obs_size == 3 + 3 + 3 + 12 + 12 + 12
    assert CONTRACT.decimation == 4


def test_whole_numbers_are_the_same_contract_as_their_floats() -> None:
    whole = dataclasses.replace(
        CONTRACT, rate_hz=50, action=dataclasses.replace(CONTRACT.action, clip=(-1, 1)), stiffness=(30,) * 12
    )
    exact = dataclasses.replace(CONTRACT, rate_hz=50.0, stiffness=(30.0,) * 12)
    assert whole.fingerprint == exact.fingerprint
    assert Contract.from_json(whole.to_json()).fingerprint == whole.fingerprint
