"""The diagnosis of a machine: it sees what is there, names the cure for what is not."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from robot_rl.cli import doctor


def _found(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    return {finding["about"]: finding for finding in json.loads(capsys.readouterr().out)}


def test_the_core_is_there_with_its_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run(doctor.Args(ticks=0, json=True)) == 0
    core = _found(capsys)["core"]
    assert core["good"]
    assert f"numpy {metadata.version('numpy')}" in str(core["detail"])


def test_a_missing_core_package_fails_and_names_the_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy>=2", "absent-package>=1", "odd; extra == 'sim'"])
    assert doctor.run(doctor.Args(ticks=0, json=True)) == 1
    found = _found(capsys)
    assert found["core"]["detail"] == "without absent-package: pip install robot-rl"
    assert found["[sim]"]["detail"] == 'without odd: pip install "robot-rl[sim]"'


def test_requirements_of_other_python_versions_do_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requires = ["numpy>=2", "absent; python_version < '3.9'", "absent; python_version >= '3.99'"]
    monkeypatch.setattr(metadata, "requires", lambda name: requires)
    assert doctor.run(doctor.Args(ticks=0, json=True)) == 0
    assert _found(capsys)["core"]["good"]


def test_timing_counts_its_wake_ups(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run(doctor.Args(ticks=7, json=True))
    assert "percentile of 7)" in str(_found(capsys)["timing"]["detail"])


def test_the_table_shows_extras_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.run(doctor.Args(ticks=0))
    assert "[dds]" in capsys.readouterr().out
