"""Log lines about trouble that repeats: said once, and again when it changes or after a while."""

import time
from typing import Final

import structlog

REPEAT_S: Final = 30.0
_SUBJECTS_MAX: Final = 1024


class Notices:
    """Each subject's last notice; bounded, as subjects can be addresses of strangers."""

    def __init__(self) -> None:
        self._log = structlog.get_logger()
        self._last: dict[str, tuple[str, float]] = {}

    def warn(self, subject: str, event: str, **details: object) -> None:
        """Log a warning about `subject`, unless the same was said of it lately."""
        text = f"{event} {details}"
        now = time.monotonic()
        said, at = self._last.get(subject, ("", 0.0))
        if said == text and now - at < REPEAT_S:
            return
        if len(self._last) >= _SUBJECTS_MAX:
            self._last.clear()
        self._last[subject] = (text, now)
        self._log.warning(event, **details)

    def settle(self, subject: str) -> None:
        """The trouble is over: the next one is news."""
        self._last.pop(subject, None)
