"""The command line's border: verbs found by file, one clean line per error, exit codes."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from robot_rl.cli import bench, main
from robot_rl.cli import list as listing

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]


def test_help_has_one_line_per_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb, line in main.verbs().items():
        assert f"  {verb} " in text
        assert line in text
        assert line, f"{verb} has no docstring"


def test_every_verb_keeps_the_protocol() -> None:
    for verb in main.verbs():
        module = importlib.import_module(f"robot_rl.cli.{verb}")
        assert module.Args.__dataclass_params__.frozen
        assert module.run.__annotations__["return"] in (int, "int")


@pytest.mark.parametrize("verb", sorted(main.verbs()))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.main([verb, "--help"])
    assert exit_.value.code == 0
    assert f"robot-rl {verb}" in capsys.readouterr().out


def test_an_unknown_verb_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["lsit"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no verb 'lsit'; the verbs are ['bench', ")
    assert error.rstrip().endswith("did you mean 'list'?")


def test_a_value_error_is_one_line_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["bench", "nonsense"]) == 2
    assert capsys.readouterr().err.startswith("error: no benchmark 'nonsense'; the choices are [")


def test_debug_lets_the_traceback_through() -> None:
    with pytest.raises(ValueError, match="no benchmark 'nonsense'"):
        main.main(["bench", "nonsense", "--debug"])


def test_a_missing_package_names_its_cure() -> None:
    assert main.explain(ModuleNotFoundError("x", name="mujoco.batch")).endswith('pip install "robot-rl[sim]"')
    assert "setup.bash" in main.explain(ModuleNotFoundError("x", name="rclpy"))
    assert main.explain(ImportError("the wire 'ros' needs ROS 2")) == "the wire 'ros' needs ROS 2"
    assert main.explain(ModuleNotFoundError("No module named 'odd'", name="odd")) == (
        "ModuleNotFoundError: No module named 'odd'"
    )


def test_the_cures_name_extras_that_bring_the_package() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    for module, extra in main.EXTRAS.items():
        names = [requirement.partition(";")[0].lower().replace("-", "_") for requirement in extras[extra]]
        assert any(name.startswith(module) for name in names), f"[{extra}] does not bring {module}"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m robot_rl.cli.main list --json | head -c 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""


def test_list_says_about_every_robot_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    go2 = next(row for row in found["robots"] if row["name"] == "go2")
    assert go2 == {"name": "go2", "about": "Unitree Go2", "joints": 12, "motors": 12}


def test_list_keeps_units_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "in the base frame [m]." in " ".join(shown.split()) and "``" not in shown


def test_list_shows_an_unreadable_robot_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hardware" / "lame").mkdir(parents=True)
    (tmp_path / "hardware" / "lame" / "robot.toml").write_text("joints = [\n", encoding="utf-8")
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert listing.run(listing.Args()) == 1
    assert "is not TOML" in capsys.readouterr().out


def test_list_shows_a_broken_policy_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policies" / "released").mkdir(parents=True)
    (tmp_path / "policies" / "released" / "torn.onnx").write_bytes(b"\x08\x09\x12")
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert listing.run(listing.Args(json=True)) == 1
    torn = next(row for row in json.loads(capsys.readouterr().out)["policies"] if row["name"] == "torn")
    assert "torn.onnx" in torn["error"]


def test_the_help_of_a_verb_says_what_its_arguments_say(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["compare", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0
    assert "Compare recipes over seeds: train what is missing" in said
    assert "For example: robot-rl compare go2_walk_ppo go2_walk_cat --task go2_velocity_cat" in said


def test_bench_options_are_literals_checked_against_the_benchmark() -> None:
    def measure(*, seconds: float = 1.0, mode: str = "a") -> dict[str, object]:
        return {"seconds": seconds, "mode": mode}

    assert bench.parse(("seconds=2.5", "mode=fast"), measure) == {"seconds": 2.5, "mode": "fast"}
    with pytest.raises(ValueError, match=r"no option 'minutes'; the choices are \['seconds', 'mode'\]"):
        bench.parse(("minutes=1",), measure)
    with pytest.raises(ValueError, match=r"'seconds=long' must be a number, such as seconds=\d"):
        bench.parse(("seconds=long",), measure)
    with pytest.raises(ValueError, match="'fast' is not name=value"):
        bench.parse(("fast",), measure)


def test_bench_prints_one_line_with_exactly_the_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "tiny.py").write_text(
        'KEYS = "bench value unit floor ratio p50_us p99_us setup".split()\n'
        "def run(*, drop: str = '') -> dict:\n    return {key: None for key in KEYS if key != drop}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("ROBOT_RL_PATH", str(tmp_path))
    assert main.main(["bench"]) == 0
    assert "tiny\n    \n    drop=\n" in capsys.readouterr().out
    assert main.main(["bench", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert tuple(json.loads(lines[0])) == bench.KEYS
    with pytest.raises(RuntimeError, match="must be"):
        main.main(["bench", "tiny", "drop=setup"])


def test_an_exit_code_of_a_verb_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "robot_rl.cli.list", SimpleNamespace(Args=listing.Args, run=lambda args: 1))
    assert main.main(["list"]) == 1
