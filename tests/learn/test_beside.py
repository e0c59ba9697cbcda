"""Work on a second core: results, errors, threads, and when it is worth it."""

from __future__ import annotations

import os
import threading
from functools import partial

import pytest
import torch

from robot_rl.learn import beside

CPU = torch.device("cpu")


@pytest.mark.parametrize("apart", [False, True])
def test_both_results_come_back_from_one_thread_or_two(apart: bool) -> None:
    here, there = beside.both(threading.get_ident, threading.get_ident, apart=apart)
    assert here == threading.get_ident()
    assert (here != there) == apart


def test_the_other_thread_is_the_same_every_time_and_has_as_many_threads_of_torch() -> None:
    runs = [beside.both(lambda: None, threading.get_ident, apart=True)[1] for _ in range(3)]
    assert len(set(runs)) == 1
    _, count = beside.both(lambda: None, torch.get_num_threads, apart=True)
    assert count == torch.get_num_threads()


@pytest.mark.parametrize("apart", [False, True])
def test_an_error_on_either_side_is_raised_when_both_have_ended(apart: bool) -> None:
    done: list[int] = []

    def fail() -> None:
        raise FloatingPointError("nan")

    with pytest.raises(FloatingPointError, match="nan"):
        beside.both(partial(done.append, 1), fail, apart=apart)
    with pytest.raises(FloatingPointError, match="nan"):
        beside.both(fail, partial(done.append, 2), apart=apart)
    assert done == ([1, 2] if apart else [1])


def test_only_large_work_on_a_cpu_with_a_core_for_each_goes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert beside.spare(beside.WORTH, CPU)
    assert beside.spare(beside.WORTH, CPU, 2)
    assert not beside.spare(beside.WORTH, CPU, 3)
    assert not beside.spare(beside.WORTH - 1, CPU)
    assert not beside.spare(beside.WORTH, torch.device("cuda"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert not beside.spare(beside.WORTH, CPU)
