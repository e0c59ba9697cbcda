"""Mailboxes between threads: the newest, or all in order."""

from __future__ import annotations

import threading

from robot_rl.runtime.mailbox import Inbox, Mailbox


def test_a_mailbox_keeps_the_newest():
    box: Mailbox[int] = Mailbox()
    assert box.take() is None
    box.put(1)
    box.put(2)
    assert (box.take(), box.take()) == (2, None)


def test_an_inbox_keeps_all_in_order_and_refuses_when_full():
    box: Inbox[int] = Inbox(2)
    assert [box.put(1), box.put(2), box.put(3)] == [True, True, False]
    assert [box.take(), box.take(), box.take()] == [1, 2, None]


def test_threads_lose_nothing_in_an_inbox():
    box: Inbox[tuple[int, int]] = Inbox(100_000)
    threads = [threading.Thread(target=lambda w=w: [box.put((w, i)) for i in range(2000)]) for w in range(4)]
    for thread in threads:
        thread.start()
    got: list[tuple[int, int]] = []
    while any(thread.is_alive() for thread in threads) or len(got) < 8000:
        item = box.take()
        if item is not None:
            got.append(item)
    for w in range(4):
        assert [i for writer, i in got if writer == w] == list(range(2000))


def test_the_last_value_always_arrives_in_a_mailbox():
    for _ in range(200):
        box: Mailbox[int] = Mailbox()
        writer = threading.Thread(target=lambda box=box: [box.put(i) for i in range(50)])
        writer.start()
        newest = None
        while writer.is_alive() or newest != 49:
            value = box.take()
            newest = value if value is not None else newest
        assert newest == 49
