"""`python -m tests.e2e.recording_replica DIR` is a replica that first writes down each frame that a peer sent it.

What was written survives `kill -9` of the process, so the record holds every statement that ever reached the protocol
of a replica, before and after all crashes.  The link proved who sent a frame.
"""

import os
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from bft.codec import Limits, MessageType, decode_body
from bft.core.events import Event
from bft.core.evidence import conflict
from bft.core.messages import Proposal, Statement
from bft.net.inbox import Frame
from bft.node import run
from bft.node.gate import ClientQuery, Gate, StateQuestion

FRAMES: Final = "frames"
_HEAD: Final = struct.Struct(">IIB")
_STATEMENTS: Final = frozenset(
    {MessageType.PROPOSAL, MessageType.PREPARE, MessageType.COMMIT, MessageType.CHECKPOINT, MessageType.VIEW_CHANGE}
)


def record_frames(path: Path) -> None:
    """From now on, every gate of this process writes what peers send to `path` before it looks at it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    open_frame = Gate.open

    async def record_and_open(gate: Gate, frame: Frame) -> Event | ClientQuery | StateQuestion | None:
        if frame.source.replica is not None and frame.type in _STATEMENTS:
            body = bytes(frame.body)
            os.write(descriptor, _HEAD.pack(len(body), frame.source.replica, frame.type) + body)
        return await open_frame(gate, frame)

    setattr(Gate, "open", record_and_open)  # noqa: B010 - for the type checker it is another function


def statements(path: Path, limits: Limits) -> Iterator[Statement]:
    """What was recorded; a frame whose writing was interrupted is left out."""
    data = path.read_bytes() if path.exists() else b""
    offset = 0
    while offset + _HEAD.size <= len(data):
        length, sender, kind = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        if offset + length <= len(data):
            message = decode_body(kind, data[offset : offset + length], limits).unverified
            statement = (message.header if isinstance(message, Proposal) else message).message
            if statement.replica == sender:  # a VIEW-CHANGE may be passed on by others
                yield statement
        offset += length


def contradictions(said: Iterable[Statement]) -> list[tuple[Statement, Statement]]:
    """Statements of which no correct replica makes both."""
    first: dict[tuple[object, ...], Statement] = {}
    found = []
    for statement in said:
        position = (
            type(statement),
            statement.replica,
            getattr(statement, "view", None),
            getattr(statement, "seq", None),
        )
        known = first.setdefault(position, statement)
        if conflict(known, statement):
            found.append((known, statement))
    return found


if __name__ == "__main__":
    home = Path(sys.argv[1])
    record_frames(home / FRAMES)
    sys.exit(run(home))
