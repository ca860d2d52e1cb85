"""What the log asks of the file system, each with the promise that it makes once it returned.

All of the log's writing goes through here, so that tests can stand in for a disk that loses what was not synced.
"""

import os
from pathlib import Path


def create(path: Path) -> int:
    """A new, empty file, open for writing; its name is durable only after `sync_directory`."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)


def open_to_write(path: Path) -> int:
    """A file that is there, open for writing."""
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of `data`, however many calls it takes; durable only after `sync`."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written


def set_size(descriptor: int, size: int) -> None:
    """Cut the file, or extend it by zeros that have no place on the disk yet."""
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Make what was written to the file durable, and of its metadata what is needed to read it."""
    os.fdatasync(descriptor)


def rename(old: Path, new: Path) -> None:
    """Give the file another name, durable only after `sync_directory`; at every instant it has one of the two."""
    old.rename(new)


def unlink(path: Path) -> None:
    """Remove a file; until `sync_directory` it may come back."""
    path.unlink()


def sync_directory(directory: Path) -> None:
    """Make what was created, renamed or removed in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def touch(path: Path) -> None:
    """Make an empty file, if it is not there, durably."""
    path.touch(mode=0o600)
    sync_directory(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there, durably."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
