"""Reads a saved state from its disk again and computes its root, in a process of its own.

Run as a module with the environment's directory, the root that it must have, and SHA-256 of its head; nothing may write
to it meanwhile.  A damaged page may end the process that meets it, and hashing a large state takes a processor seconds.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Final

import lmdb
import structlog

from bft.statemachine.stream import root_of

_DAMAGED: Final = 3
_KEY_LENGTH_BYTES: Final = 4
_NICE: Final = 15
_MET_BY_DAMAGE: Final = tuple(-number for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT))
_log = structlog.get_logger()


def begin(environment: Path, root: bytes, head: bytes) -> subprocess.Popen[str]:
    """Begin to read; what the system has of the file in memory is let go of, so that the disk itself is asked."""
    descriptor = os.open(environment / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    command = [sys.executable, "-m", __name__, str(environment), root.hex(), sha256(head).hexdigest()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603 (this very file)


def outcome(process: subprocess.Popen[str]) -> str | None:
    """Wait for it; what is wrong with the disk, None if nothing is or if it was not read to the end."""
    _, said = process.communicate()
    code, words = process.returncode, said.strip().rpartition("\n")[2]
    if code == _DAMAGED:
        return words
    if code in _MET_BY_DAMAGE:
        return f"reading it ends a process with signal {-code}"
    if code:  # ended from outside, or by a lack of memory
        _log.warning("the saved state was not read again", code=code, error=words)
    return None


def _read(environment: str, root: str, head_digest: str) -> None:
    size = Path(environment, "data.mdb").stat().st_size
    env = lmdb.open(environment, map_size=max(size, 1 << 20), max_dbs=2, readonly=True, lock=False, readahead=True)
    heads = env.open_db(b"head", create=False)
    items = env.open_db(b"items", create=False)
    with env.begin(db=items) as transaction:
        if sha256(transaction.get(b"head", b"", db=heads)).hexdigest() != head_digest:
            raise ValueError("its head is not what was written")
        found = root_of(_items(transaction))
    if found.hex() != root:
        raise ValueError(f"its root is {found.hex()[:16]}, certified is {root[:16]}")


def _items(transaction: lmdb.Transaction) -> Iterator[tuple[bytes, bytes]]:
    for _, value in transaction.cursor():
        item = bytes(value)
        end = _KEY_LENGTH_BYTES + int.from_bytes(item[:_KEY_LENGTH_BYTES])
        yield item[_KEY_LENGTH_BYTES:end], item[end:]


if __name__ == "__main__":
    os.nice(_NICE)
    try:
        _read(*sys.argv[1:])
    except (lmdb.Error, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_DAMAGED)
