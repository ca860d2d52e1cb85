"""The outgoing link to one peer: dialled again with jittered, growing pauses for as long as the replica runs."""

import asyncio
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from bft.config import Address
from bft.net.link import HANDSHAKE_TIMEOUT_S, SHUTDOWN_TIMEOUT_S, Link
from bft.net.listener import explain, keep_alive
from bft.net.notices import Notices

PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 1.0
_WORTH_SAYING_S: Final = 0.4  # a pause that long means several attempts in vain: a peer's restart is no news
_CONNECT_TIMEOUT_S: Final = 10.0
_log = structlog.get_logger()


class Dialer:
    """Keeps one link to a peer; `link` is the one that is open now."""

    def __init__(
        self, peer: int, address: Address, context: ssl.SSLContext, make_link: Callable[[], Link], notices: Notices
    ) -> None:
        self.peer: Final = peer
        self._address = address
        self._context = context
        self._make_link = make_link
        self._notices = notices
        self._pause_s = PAUSE_MIN_S
        self._hurry = asyncio.Event()
        self.link: Link | None = None
        self.trouble = "not connected yet"  # empty while connected

    def opened(self, link: Link) -> None:
        """HELLO was exchanged: frames may be sent."""
        self.link = link
        self.trouble = ""
        self._pause_s = PAUSE_MIN_S
        self._notices.settle(f"peer {self.peer}")
        _log.info("connected", peer=self.peer, address=str(self._address))

    def hurry(self) -> None:
        """The peer is there, for it dialled us: dial now."""
        self._hurry.set()

    async def run(self) -> None:
        """Dial until cancelled."""
        while True:
            self.trouble = await self._dial_once()
            if self._pause_s >= _WORTH_SAYING_S:
                self._notices.warn(
                    f"peer {self.peer}",
                    "not connected",
                    peer=self.peer,
                    address=str(self._address),
                    reason=self.trouble,
                )
            self._hurry.clear()
            with suppress(TimeoutError):
                # Jitter spreads the load of many; it hides nothing.  Not wait_for, which in Python 3.11 loses a
                # cancellation that comes together with the event.
                async with asyncio.timeout(self._pause_s * random.uniform(0.5, 1.0)):  # noqa: S311
                    await self._hurry.wait()
            self._pause_s = min(self._pause_s * 2, PAUSE_MAX_S)

    async def _dial_once(self) -> str:
        """One link from its beginning to its end; why there is none any more."""
        link = self._make_link()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    self._address.host,
                    self._address.port,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                )
        except OSError as error:  # TLS errors and time-outs are OSErrors
            return explain(error)
        try:
            keep_alive(transport.get_extra_info("socket"))
            await link.lost
        except OSError as error:
            return explain(error)
        finally:
            self.link = None
            link.close()
        return link.reason or "the peer closed the connection"
