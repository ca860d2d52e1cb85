"""What a key may hold: every key has one writer, which has one operation under way at a time.

So a read must give the last acknowledged write.  A write whose outcome is not known (a time-out) may take effect at any
time, once: it is allowed until it was seen.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

_HEAD: Final = struct.Struct(">IQ")  # writer, number of the write
VALUE_BYTES_MIN: Final = _HEAD.size


def key_of(number: int) -> bytes:
    """The name of a key; names sort as numbers do."""
    return b"bench/%08d" % number


def value_of(writer: int, number: int, size: int) -> bytes:
    """A value that says which write made it."""
    return _HEAD.pack(writer, number).ljust(size, b".")


@dataclass(slots=True)
class KeyHistory:
    """The writes of one key, by its only writer."""

    writer: int
    value_size: int
    acknowledged: int = 0  # number of the last write that is known to have executed; 0: none
    doubtful: set[int] = field(default_factory=set)  # sent, outcome unknown, never seen
    revision: int = 0  # of the acknowledged write

    def on_acknowledged(self, number: int, revision: int) -> str | None:
        """The write `number` executed; what is wrong with that, if anything."""
        earlier, self.acknowledged, self.revision = self.revision, number, revision
        if revision <= earlier:
            return f"write {number} of caller {self.writer} got revision {revision} after revision {earlier}"
        return None

    def on_read(self, value: bytes | None) -> str | None:
        """A read, or the final state, showed `value`; what is wrong with that, if anything."""
        if value is None:
            return f"write {self.acknowledged} of caller {self.writer} is lost" if self.acknowledged else None
        if len(value) != self.value_size or value != value_of(self.writer, number := _number(value), len(value)):
            return f"a key of caller {self.writer} holds what it never wrote"
        if number in self.doubtful:
            self.doubtful.remove(number)
            self.acknowledged, self.revision = number, 0
        elif number != self.acknowledged:
            return f"caller {self.writer} wrote {self.acknowledged} and finds {number}"
        return None

    def document(self) -> dict[str, Any]:
        return {
            "writer": self.writer,
            "value_size": self.value_size,
            "acknowledged": self.acknowledged,
            "doubtful": sorted(self.doubtful),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        return cls(document["writer"], document["value_size"], document["acknowledged"], set(document["doubtful"]))


def _number(value: bytes) -> int:
    return int(_HEAD.unpack_from(value)[1])


def wrong_values(histories: Mapping[bytes, KeyHistory], held: Mapping[bytes, bytes]) -> list[str]:
    """What the final state contradicts of what was acknowledged."""
    return [wrong for key, history in histories.items() if (wrong := history.on_read(held.get(key))) is not None]
