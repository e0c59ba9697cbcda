"""Files that are written whole: a reader sees the old one or the new one, never half, and a kill loses neither.

Knows: temporary names, fsync, rename. Does not know: what is in the files.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, suffix: str = ".tmp") -> Generator[Path, None, None]:
    """Give a hidden path to write to; on success it is fsynced and takes the name ``path``, on failure it is removed.

    Args:
        path: The file; its folder is made.
        suffix: End of the hidden name, for writers that go by it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    try:
        yield hidden
        _sync(hidden)
        hidden.replace(path)
    finally:
        hidden.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file in one piece; text as UTF-8."""
    with replacing(path) as hidden:
        hidden.write_bytes(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
