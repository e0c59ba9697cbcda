"""Compaction: a block reads exactly as its log did, and the log goes only once that is proven."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from robot_rl.data import blocks
from robot_rl.data.blocks import Compactor, compact, read_block
from robot_rl.data.episodes import EpisodeReader, EpisodeWriter
from robot_rl.data.store import QUARANTINE, check_sealed, faults
from tests.data.recording import CONTRACT, join, make_robot, make_rows, make_writer, read_all, ticks


@pytest.fixture
def zarr() -> object:
    return pytest.importorskip("zarr", minversion="3")


def record(folder: Path, rows: int = 20, segment_bytes: int = 3000) -> None:
    with make_writer(folder, segment_bytes=segment_bytes) as writer:
        for tick in range(0, rows, 5):
            writer.start_episode({"tick": tick})
            writer.append(make_rows(tick, 5))
            writer.end_episode("time", label=1)


def stages(folder: Path) -> dict[str, int]:
    return {stage: len(list(folder.glob(f"*{stage}"))) for stage in (".open", ".seg", ".zarr.zip")}


def test_blocks_read_bit_for_bit_as_their_logs_did(tmp_path: Path, zarr: object) -> None:
    record(tmp_path)
    rows, events = read_all(tmp_path)
    segments = stages(tmp_path)[".seg"]
    assert len(compact(tmp_path)) == segments > 1
    assert stages(tmp_path) == {".open": 0, ".seg": 0, ".zarr.zip": segments}
    again, found = read_all(tmp_path)
    assert again.tobytes() == rows.tobytes()
    assert found == events
    assert compact(tmp_path) == []


def test_a_block_is_plain_zarr(tmp_path: Path, zarr: object) -> None:
    import zarr as library
    from zarr.storage import ZipStore

    record(tmp_path, segment_bytes=1 << 20)
    (block,) = compact(tmp_path)
    group = library.open_group(ZipStore(block, mode="r"), mode="r", zarr_format=3)
    assert group["obs"][...].tolist() == make_rows(0, 20)["obs"].tolist()
    assert [codec.to_dict()["name"] for codec in group["obs"].metadata.codecs] == ["bytes", "zstd", "crc32c"]


def test_segments_of_events_alone_and_fields_of_no_width_are_kept(tmp_path: Path, zarr: object) -> None:
    with EpisodeWriter(tmp_path, CONTRACT, make_robot(("left",))) as writer:
        writer.event({"event": "note", "text": "nobody moved"})
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(0, 1))  # a robot without feet
    whole = read_all(tmp_path)
    compact(tmp_path)
    rows, events = read_all(tmp_path)
    assert rows.tobytes() == whole[0].tobytes()
    assert events == whole[1]


def test_an_open_segment_stays_open(tmp_path: Path, zarr: object) -> None:
    with make_writer(tmp_path) as writer:
        writer.append(make_rows(0, 3))
        assert compact(tmp_path) == []
        assert stages(tmp_path)[".open"] == 1


def test_a_reader_goes_on_while_its_segments_are_compacted(tmp_path: Path, zarr: object) -> None:
    record(tmp_path)
    reader = EpisodeReader.follow(tmp_path)
    first = join(reader.poll(7))
    cursor = reader.cursor
    compact(tmp_path)
    assert np.concatenate([first, join(reader.poll())]).tobytes() == make_rows(0, 20).tobytes()
    resumed = join(EpisodeReader.follow(tmp_path, cursor=cursor).poll())
    assert np.concatenate([first, resumed]).tobytes() == make_rows(0, 20).tobytes()


def test_killed_between_rename_and_removal_the_log_is_removed_later(tmp_path: Path, zarr: object) -> None:
    record(tmp_path, segment_bytes=1 << 20)
    (log,) = tmp_path.glob("*.seg")
    data = log.read_bytes()
    (block,) = compact(tmp_path)
    log.write_bytes(data)
    assert ticks(tmp_path) == list(range(20))
    assert compact(tmp_path) == [block]
    assert not log.exists()
    assert ticks(tmp_path) == list(range(20))


def test_a_damaged_block_beside_its_log_is_made_anew(tmp_path: Path, zarr: object) -> None:
    record(tmp_path, segment_bytes=1 << 20)
    (log,) = tmp_path.glob("*.seg")
    data = log.read_bytes()
    (block,) = compact(tmp_path)
    log.write_bytes(data)
    block.write_bytes(block.read_bytes()[:-200])
    compact(tmp_path)
    assert ticks(tmp_path) == list(range(20))
    assert (tmp_path / QUARANTINE / block.name).exists()


def test_a_block_damaged_anywhere_is_refused(tmp_path: Path, zarr: object) -> None:
    record(tmp_path, 10, segment_bytes=1 << 20)
    (block,) = compact(tmp_path)
    whole = block.read_bytes()
    for byte in [*range(0, len(whole), 97), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[byte] ^= 1
        block.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"the {len(whole)} bytes of the file fail their checksum"):
            read_block(block)
    block.write_bytes(whole)
    assert read_block(block)[1]


def test_a_damaged_block_is_set_aside_and_the_rest_is_read(tmp_path: Path, zarr: object) -> None:
    with make_writer(tmp_path, segment_bytes=1) as writer:
        for tick in range(3):
            writer.append(make_rows(tick, 1))
    damaged = compact(tmp_path)[1]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    assert ticks(tmp_path) == [0, 2]
    (fault,) = faults(tmp_path)
    assert fault["file"] == damaged.name
    assert "block is damaged" in fault["reason"]
    assert (tmp_path / QUARANTINE / damaged.name).exists()


def test_a_damaged_log_is_set_aside_and_its_whole_records_compacted(tmp_path: Path, zarr: object) -> None:
    record(tmp_path, segment_bytes=1 << 20)
    (log,) = tmp_path.glob("*.seg")
    damaged = bytearray(log.read_bytes())
    damaged[damaged.index(make_rows(10, 5).tobytes())] ^= 1
    log.write_bytes(damaged)
    with pytest.raises(ValueError, match="fails its checksum"):
        check_sealed(log)
    (block,) = compact(tmp_path)
    assert ticks(tmp_path) == list(range(10))
    assert (tmp_path / QUARANTINE / log.name).read_bytes() == damaged
    assert block.exists()


def test_only_one_process_compacts_a_store(tmp_path: Path, zarr: object) -> None:
    record(tmp_path)
    with open(tmp_path / ".compact.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert compact(tmp_path) == []
    assert compact(tmp_path)


def test_the_compactor_works_in_the_background_and_ends_with_its_parent(tmp_path: Path, zarr: object) -> None:
    record(tmp_path, segment_bytes=1 << 20)
    code = (
        "import os, sys; from pathlib import Path; from robot_rl.data.blocks import Compactor\n"
        "c = Compactor(Path(sys.argv[1]), period_s=0.1, niceness=0); print(c._process.pid, flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: stages(tmp_path)[".seg"] == 0)
    assert ticks(tmp_path) == list(range(20))
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(child))


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + 120
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_without_zarr_the_store_stays_a_log_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record(tmp_path)
    monkeypatch.setattr(blocks, "has_zarr", lambda: False)
    with Compactor(tmp_path):
        assert "stays a log: compaction needs zarr 3 and Python 3.11" in caplog.text
    with pytest.raises(ImportError, match=r"pip install \"zarr>=3\""):
        compact(tmp_path)
    with pytest.raises(ImportError, match="needs zarr 3"):
        read_block(tmp_path / "w.000000.zarr.zip")
    assert ticks(tmp_path) == list(range(20))
