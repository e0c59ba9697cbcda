"""Numbers of a run: episodes counted by hand, files that survive a kill, a page that stands alone."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from robot_rl.learn.charts import Curve, binned, chart, label, log_ticks, smoothed, ticks
from robot_rl.learn.metrics import EpisodeTracker, RunLog, read_metrics
from robot_rl.learn.report import write_report


def test_episodes_are_counted_when_they_end() -> None:
    tracker = EpisodeTracker(2)
    never = torch.zeros(2, dtype=torch.bool)
    tracker.add(torch.tensor([1.0, 10.0]), torch.tensor([0.0, 0.9]), never)  # a fraction does not end an episode
    assert tracker.means() == {}
    tracker.add(torch.tensor([2.0, 20.0]), torch.tensor([1.0, 0.0]), never)
    assert tracker.means() == {"episode/return": 3.0, "episode/length": 2.0, "episode/terminated": 1.0}
    tracker.add(torch.tensor([5.0, 30.0]), torch.zeros(2), torch.tensor([False, True]))
    assert tracker.means() == {"episode/return": 31.5, "episode/length": 2.5, "episode/terminated": 0.5}


def test_a_restored_tracker_goes_on_alike() -> None:
    first, second = EpisodeTracker(3), EpisodeTracker(3)
    never = torch.zeros(3, dtype=torch.bool)
    first.add(torch.ones(3), torch.tensor([1.0, 0.0, 0.0]), never)
    second.restore(first.snapshot())
    for tracker in (first, second):
        tracker.add(torch.ones(3), torch.ones(3), never)
    assert first.means() == second.means()
    assert first.episodes == second.episodes == 4


def test_metrics_reach_both_files_exactly(tmp_path: Path) -> None:
    with RunLog(tmp_path, 100, progress=False) as log:
        log.write(1, 50, {"loss/kl": 1.0 / 3.0, "loss/bad": math.nan})
        log.write(2, 100, {"loss/kl": 0.25})
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert rows[0] == {"iteration": 1, "steps": 50, "loss/kl": 1.0 / 3.0, "loss/bad": None}
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/kl")] == [(50, pytest.approx(1.0 / 3.0)), (100, 0.25)]


def test_a_resumed_log_drops_what_will_be_repeated(tmp_path: Path) -> None:
    with RunLog(tmp_path, 100, progress=False) as log:
        for i in (1, 2, 3):
            log.write(i, i * 10, {"x/y": float(i)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "st')
    with RunLog(tmp_path, 100, first_iteration=2, progress=False) as log:
        log.write(3, 30, {"x/y": 33.0})
    assert [row["x/y"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 33.0]


def test_ticks_are_round_and_span_the_data() -> None:
    assert ticks(0.0, 10.0) == [0.0, 5.0, 10.0]
    assert ticks(-0.3, 0.9) == pytest.approx([-0.5, 0.0, 0.5, 1.0])
    assert len(ticks(2.0, 2.0)) >= 2
    assert log_ticks(-3.7, -1.2) == [-4.0, -3.0, -2.0, -1.0]


def test_labels_are_short_and_exact() -> None:
    assert [label(x) for x in (0.0, 20e6, 1500.0, -0.25, 1.5e-5)] == ["0", "20M", "1.5k", "-0.25", "1.5e-5"]


def test_binning_and_smoothing_keep_the_mean_of_a_line() -> None:
    line = [(float(i), 2.0 * i) for i in range(1000)]
    few = binned(line, 100)
    assert len(few) == 100 and few[0] == (4.5, 9.0)
    assert [y for _, y in smoothed(few)] == pytest.approx([y for _, y in few])


def test_a_chart_of_odd_values_is_still_a_chart() -> None:
    assert "no finite values" in chart(Curve("x", [(1.0, math.nan)]))
    assert "nan" not in chart(Curve("x", [(1.0, math.nan), (2.0, 5.0)]))
    assert "polyline" in chart(Curve("x", [(1.0, 0.0), (2.0, 5.0)], logarithmic=True))


class Page(HTMLParser):
    """Collects tags that are left open, and addresses outside the page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [str(v) for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "br", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_stands_alone_and_shows_every_number(tmp_path: Path) -> None:
    names = ("episode/return", "reward/track_lin_vel", "loss/kl", "time/fps", "other/thing")
    with RunLog(tmp_path, 100, progress=False) as log:
        for i in range(1, 30):
            log.write(i, i * 10, dict.fromkeys(names, 1.0 / i))
    (tmp_path / "run.json").write_text(json.dumps({"recipe": "<evil>", "seed": 3, "config": {"clip": 0.2}}))
    text = write_report(tmp_path).read_text()
    page = Page()
    page.feed(text)
    assert page.open == [] and page.outside == []
    assert page.tags.count("svg") == len(names)
    assert "http" not in text and "<evil>" not in text and "&lt;evil&gt;" in text
    for shown in ("track lin vel", "Reward terms", "clip", "0.2"):
        assert shown in text


def test_a_run_without_an_iteration_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no finished iteration"):
        write_report(tmp_path)
