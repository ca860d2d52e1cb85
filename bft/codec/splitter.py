"""Frames out of a stream of bytes, in time linear in their number, whatever the pieces it comes in."""

from collections.abc import Mapping

from bft.codec.frames import PROTOCOL_VERSION
from bft.errors import InvalidMessage

_LENGTH_BYTES = 4
_HEAD_BYTES = 6  # length, version, type


class FrameSplitter:
    """Splits what a link receives into frames; refuses a length or type before it stores what follows.

    `bounds` names the types that the link takes and bounds what follows the length field (`Limits.peer` and so on).
    After InvalidMessage the stream has no meaning any more: close the link.  Holds at most one incomplete frame.
    """

    __slots__ = ("_bounds", "_buffer", "_longest", "_wanted")

    def __init__(self, bounds: Mapping[int, int]) -> None:
        self._bounds = bounds
        self._longest = max(bounds.values())
        self._buffer = bytearray()  # the beginning of a frame, shorter than `_wanted`
        self._wanted = _LENGTH_BYTES  # bytes without which nothing can be done

    @property
    def buffered(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
        """The (type, body) of every frame that `data` completes, in order.  Raises InvalidMessage."""
        buffer = self._buffer
        if buffer:
            buffer += data
            if len(buffer) < self._wanted:
                return []
            stream = memoryview(buffer)
        else:
            stream = memoryview(data)
        try:
            frames, used = self._split(stream)
            rest = bytes(stream[used:]) if not buffer else b""
        finally:
            stream.release()
        if buffer:
            del buffer[:used]
        else:
            buffer += rest
        return frames

    def _split(self, stream: memoryview) -> tuple[list[tuple[int, bytes]], int]:
        """The complete frames at the start of `stream` and how many bytes they take; sets `_wanted` for the rest."""
        frames: list[tuple[int, bytes]] = []
        position, size = 0, len(stream)
        while True:
            head = position + _HEAD_BYTES
            if size < head:
                if size >= position + _LENGTH_BYTES:
                    self._check_length(int.from_bytes(stream[position : position + _LENGTH_BYTES], "big"))
                    self._wanted = _HEAD_BYTES
                else:
                    self._wanted = _LENGTH_BYTES
                return frames, position
            length = int.from_bytes(stream[position : position + _LENGTH_BYTES], "big")
            frame_type = self._check_head(length, stream[head - 2], stream[head - 1])
            end = position + _LENGTH_BYTES + length
            if size < end:
                self._wanted = end - position
                return frames, position
            frames.append((frame_type, bytes(stream[head:end])))
            position = end

    def _check_length(self, length: int) -> None:
        if not _HEAD_BYTES - _LENGTH_BYTES < length <= self._longest:
            raise InvalidMessage(f"a frame of {length} bytes, where {self._longest} are the most")

    def _check_head(self, length: int, version: int, frame_type: int) -> int:
        self._check_length(length)
        if version != PROTOCOL_VERSION:
            raise InvalidMessage(f"the other side speaks protocol version {version}, this one {PROTOCOL_VERSION}")
        bound = self._bounds.get(frame_type)
        if bound is None:
            raise InvalidMessage(f"a frame of type {frame_type}, which this link does not take")
        if length > bound:
            raise InvalidMessage(f"a frame of type {frame_type} and {length} bytes, where {bound} are the most")
        return frame_type
