"""How far state transfer is, for status and log: nodes, bytes and their rate."""

from typing import Final

import structlog

from bft.core.effects import CatchingUp

_TOLD_EVERY_NS: Final = 1_000_000_000
_log = structlog.get_logger()


class TransferProgress:
    """The last word of the core about state transfer; a line in the log at its first answer, each second, its end."""

    def __init__(self) -> None:
        self._latest: CatchingUp | None = None
        self._told_ns = 0  # monotonic

    def advanced(self, progress: CatchingUp, now_ns: int) -> None:
        """An answer came."""
        begins = self._latest is None or self._latest.since_ns != progress.since_ns
        ends = not progress.nodes_wanted
        self._latest = progress
        if begins or ends or now_ns - self._told_ns >= _TOLD_EVERY_NS:
            self._told_ns = now_ns
            _log.info("state received" if ends else "catching up", **_figures(progress, now_ns))

    def document(self, now_ns: int) -> dict[str, int | float] | None:
        """For the status while there is a transfer; None before its first answer."""
        latest = self._latest
        return None if latest is None or not latest.nodes_wanted else _figures(latest, now_ns)


def _figures(progress: CatchingUp, now_ns: int) -> dict[str, int | float]:
    seconds = (now_ns - progress.since_ns) / 1e9
    return {
        "seq": progress.seq,
        "nodes_received": progress.nodes_received,
        "nodes_wanted": progress.nodes_wanted,
        "bytes_received": progress.bytes_received,
        "seconds": round(seconds, 3),
        "bytes_per_s": round(progress.bytes_received / seconds) if seconds > 0 else 0,
    }
