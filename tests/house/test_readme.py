"""What README and CONTRIBUTING tell a reader to type exists and parses; what they link to is there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

from robot_rl.cli import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(p for room in ("docs", "hardware", "sim", "policies", "launch") for p in (ROOT / room).rglob("*.md")),
    ]
)
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _commands(program: str) -> list[str]:
    """Every command of ``program`` in a fenced block or between backticks, whole, on any page."""
    found: set[str] = set()
    for text in TEXT.values():
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            found |= {line.partition(" #")[0].strip() for line in lines if line.startswith(program + " ")}
        found |= set(re.findall(rf"`({program} [^`<]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
    return sorted(found)


@pytest.mark.parametrize("command", [c for c in _commands("robot-rl") if "VERB" not in c and "--help" not in c])
def test_every_robot_rl_command_parses(command: str) -> None:
    verb, *rest = shlex.split(command)[1:]
    assert verb in main.verbs(), f"{command}: no such verb"
    if rest:  # a bare verb in a sentence names it, no more
        tyro.cli(importlib.import_module(f"robot_rl.cli.{verb}").Args, args=rest)


def test_every_make_target_exists() -> None:
    named = {word for command in _commands("make") for word in command.split()[1:2]}
    assert {"demo", "test", "check", "test-all", "test-robot", "bench", "wheel"} <= TARGETS
    assert named <= TARGETS, f"no target {sorted(named - TARGETS)}"


def test_the_main_job_is_eight_commands() -> None:
    section = TEXT[ROOT / "README.md"].partition("## The main job in eight commands")[2].partition("\n## ")[0]
    block = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)[0].replace("\\\n", " ")
    assert len(block.strip().splitlines()) == 8


def test_every_link_to_a_file_leads_somewhere() -> None:
    for page, text in TEXT.items():
        for link in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name} links to {link}"


def test_the_readme_has_a_row_for_every_folder() -> None:
    table = TEXT[ROOT / "README.md"].partition("## Which folder")[2]
    for folder in ("hardware", "sim", "policies", "launch", "ros2_ws", "robot_rl", "tests", "benchmarks"):
        assert (ROOT / folder).is_dir()
        assert f"| `{folder}/` |" in table
