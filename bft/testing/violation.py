"""A run in which something did not hold."""

from __future__ import annotations


class Violation(Exception):
    """What did not hold, and after which event."""

    def __init__(self, what: str, *, event: int, now_ns: int) -> None:
        super().__init__(what, event, now_ns)
        self.what = what
        self.event = event
        self.now_ns = now_ns
        self.options = ""  # expanded
        self.replay = ""  # the command that shows it again

    def __str__(self) -> str:
        lines = [f"{self.what} (event {self.event}, {self.now_ns / 1e9:.3f} s)"]
        lines += [line for line in (self.options, f"replay: {self.replay}" if self.replay else "") if line]
        return "\n".join(lines)
