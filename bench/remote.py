"""Load generators on other machines: whose clocks are not ours, and who have no file of ours to write to.

A worker's clock is compared with ours by asking for it: what it says lies between our sending and our receiving.  All
times that it reports become ours by that, and the history that is judged allows for the error.
"""

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

PART_CHARACTERS: Final = 1 << 18  # of a result that goes over a stream, line by line
_QUESTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Offset:
    """How far another machine's CLOCK_MONOTONIC is ahead of ours, and by how much that may be wrong."""

    ahead_s: float = 0.0
    error_s: float = 0.0

    @classmethod
    async def measured(cls, ask: Callable[[], Awaitable[float]]) -> "Offset":
        """`ask` gives the other clock; the quickest of several answers says most."""
        found = []
        for _ in range(_QUESTIONS):
            sent = time.monotonic()
            theirs = await ask()
            received = time.monotonic()
            found.append(cls(theirs - (sent + received) / 2, (received - sent) / 2))
        return min(found, key=lambda offset: offset.error_s)

    def ours(self, document: dict[str, Any]) -> dict[str, Any]:
        """A worker's result with our times: what it asked was asked no earlier than told, and answered no later."""
        if self == Offset():
            return document
        ahead_ns, error_ns = round(self.ahead_s * 1e9), round(self.error_s * 1e9) + 1

        def row(caller: int, key: int, value: str | None, invoked_ns: int, returned_ns: int | None, *told: Any) -> Any:
            invoked_ns -= ahead_ns + error_ns
            returned_ns = None if returned_ns is None else returned_ns - ahead_ns + error_ns
            return [caller, key, value, invoked_ns, returned_ns, *told]

        answers = [(seq, sent - self.ahead_s, answered - self.ahead_s) for seq, sent, answered in document["answers"]]
        return document | {"answers": answers, "shared": [row(*told) for told in document["shared"]]}


def parts(document: dict[str, Any]) -> Iterator[str]:
    """The lines that carry a result."""
    text = json.dumps(document)
    for first in range(0, len(text), PART_CHARACTERS):
        yield json.dumps({"part": text[first : first + PART_CHARACTERS]})
