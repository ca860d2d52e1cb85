"""The state in memory is hashed again in the background: a value that changed by itself is found and repaired."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from bft.statemachine.scrub import Scrub

_SLICE_BYTES: Final = 256 << 10  # about a millisecond, between two rounds of the protocol
_SLICE_EVERY_S: Final = 0.05  # hence at most about a fiftieth of one core, and 5 MB a second
_REST_S: Final = 60.0  # between passes
_log = structlog.get_logger()


class Scrubber:
    """Passes over the state, one after another; `on_damage` hears of each that found something."""

    def __init__(self, begin: Callable[[], Scrub], on_damage: Callable[[], None]) -> None:
        self._begin = begin
        self._on_damage = on_damage
        self.passes = 0  # that came to their end
        self.found = 0

    async def run(self) -> None:
        """Scrub until cancelled."""
        while True:
            await asyncio.sleep(_REST_S)
            scrub = self._begin()
            while not scrub.done:
                damage = scrub.advance(_SLICE_BYTES)
                if damage is not None:
                    self.found += 1
                    _log.error(
                        "the state in memory is damaged",
                        key=repr(damage.key),
                        expected=damage.expected.hex(),
                        found=damage.found.hex(),
                    )
                    self._on_damage()
                    break
                await asyncio.sleep(_SLICE_EVERY_S)
            else:
                self.passes += 1
