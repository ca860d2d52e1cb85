"""Key and certificate files: created once, durable, and secrets readable by their owner alone."""

import os
import stat
from pathlib import Path

FILE_BYTES_MAX = 64 * 1024  # far above any PEM file of ours; bounds what a wrong path can make us read


class UnsafeFile(ValueError):
    """A file that must not be used as it is; the message says what to do about it."""


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create `path` with `data`, durable on return.  Raises FileExistsError rather than overwrite.

    The mode holds from the first instant (no window in which a secret is readable), whatever the umask is.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        _fsync_directory(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)  # a torn key file must not block the next attempt
        raise


def read_secret(path: Path) -> bytes:
    """Return the bytes of a file that only its owner can read.  Raises UnsafeFile or OSError.

    The checks are made on the opened file, so that it cannot be exchanged between check and read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # non-blocking: a FIFO must not hang us
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnsafeFile(f"{path} is not a regular file")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            mode = stat.S_IMODE(status.st_mode)
            raise UnsafeFile(f"{path} is open to group or others (mode {mode:04o}): run chmod 600 {path}")
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise UnsafeFile(f"{path} is larger than {FILE_BYTES_MAX} bytes")
    return data


def _fsync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
