"""A real recording process for the kill tests: appends rows and reports each one it was told is safe.

Usage: python writer_process.py FOLDER FIRST_TICK ACK_FD SEGMENT_BYTES
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.data.recording import make_rows, make_writer


def main() -> None:
    folder, first, ack_fd, segment_bytes = Path(sys.argv[1]), *(int(a) for a in sys.argv[2:5])
    writer = make_writer(folder, segment_bytes=segment_bytes, sync_s=0.005)
    tick = first
    while True:
        if tick % 50 == 0:
            writer.start_episode({"tick": tick})
        count = 1 + tick % 3
        writer.append(make_rows(tick, count) if count > 1 else make_rows(tick, 1)[0])
        tick += count
        os.write(ack_fd, tick.to_bytes(8, "little"))


if __name__ == "__main__":
    main()
