"""What a state transfer has brought so far, so that a restart in the middle of it need not begin anew.

    fetched    records, each: u8 kind, u32 length of the rest; 1: the root that is fetched from here on, 32 bytes;
               2: u8 length of a path, the path, the node's encoding

Nothing is promised of the file and nothing of it is synced: it is read up to the first record that is cut off, and each
node of it is verified as if it came from a peer.  Integers are big endian.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import structlog

from bft.statemachine.trie import DEPTH_MAX, HASH_BYTES

FETCHED: Final = "fetched"
_HEAD: Final = struct.Struct(">BI")
_TARGET: Final = 1
_NODE: Final = 2
_RECORD_BYTES_MAX: Final = 4 << 20  # above that of any node
_BYTES_MAX: Final = 16 << 30  # of the file: one that is so large is given up
_log = structlog.get_logger()


class FetchedNodes:
    """The file in a data directory.  A disk that fails here costs the file, not the replica: nothing rests on it."""

    def __init__(self, directory: Path) -> None:
        self.path: Final = directory / FETCHED
        self._file: BinaryIO | None = None
        self._size = 0  # up to the end of the last whole record
        self._given_up = False

    def held(self) -> Iterator[tuple[bytes | None, bytes]]:
        """What an earlier process left, in order: (None, root) of each target, (path, encoding) of each node."""
        try:
            with self.path.open("rb") as file:
                self._size = 0
                while (record := _read(file)) is not None:
                    self._size = file.tell()
                    yield record
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("what was fetched cannot be read: it is fetched again", error=error.strerror)

    def target(self, root: bytes) -> None:
        """The nodes that follow are of this root."""
        self._write(_TARGET, root)

    def node(self, path: bytes, encoding: bytes) -> None:
        """A verified node of the latest target."""
        self._write(_NODE, bytes((len(path),)) + path + encoding)

    def forget(self) -> None:
        """The state is complete, or no longer wanted."""
        self.close()
        self._size = 0
        self._given_up = False
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("what was fetched cannot be removed", error=error.strerror)

    def close(self) -> None:
        """Keep the file for the next process."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            _log.warning("what was fetched is not kept", error=error.strerror)

    def _write(self, kind: int, content: bytes) -> None:
        if self._given_up:
            return
        try:
            if self._file is None:
                self.path.touch(mode=0o600)
                self._file = self.path.open("r+b")
                self._file.truncate(self._size)  # what was cut off, or was never asked for
                self._file.seek(self._size)
            self._file.write(_HEAD.pack(kind, len(content)) + content)
        except OSError as error:
            _log.warning("what is fetched is not kept for a restart", error=error.strerror)
            self._give_up()
            return
        self._size += _HEAD.size + len(content)
        if self._size > _BYTES_MAX:
            self._give_up()

    def _give_up(self) -> None:
        self.forget()
        self._given_up = True


def _read(file: BinaryIO) -> tuple[bytes | None, bytes] | None:
    """The next record; None at the end, or where it is no record."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, length = _HEAD.unpack(head)
    if length > _RECORD_BYTES_MAX:
        return None
    content = file.read(length)
    if len(content) < length:
        return None
    if kind == _TARGET and length == HASH_BYTES:
        return None, content
    if kind == _NODE and content and content[0] <= min(DEPTH_MAX, length - 1):
        end = 1 + content[0]
        return content[1:end], content[end:]
    return None
