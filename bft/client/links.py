"""The client's links to the replicas: one each, dialled again for as long as the client is open."""

import asyncio
import ssl
from typing import Final, Protocol

from bft.client.retry import Backoff
from bft.config import ReplicaEntry
from bft.errors import InvalidMessage
from bft.net.link import HANDSHAKE_TIMEOUT_S, SHUTDOWN_TIMEOUT_S, Link, LinkRefused, LinkSettings
from bft.net.listener import explain, keep_alive
from crypto.certificates import Role

CONNECT_TIMEOUT_S: Final = 10.0
PAUSE_MIN_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
WAITING_BYTES_MAX: Final = 8 << 20  # sent to a replica that does not read


class LinkOwner(Protocol):
    """Hears of everything that happens on the links."""

    def on_up(self, replica: int) -> None: ...

    def on_down(self, replica: int) -> None: ...

    def on_frames(self, replica: int, frames: list[tuple[int, bytes]]) -> None:
        """Raises InvalidMessage for what no correct replica sends: the link is then closed."""
        ...


class ReplicaLink:
    """The link to one replica.

    Admits only the holder of the key that the cluster's configuration pins for it; what comes on the link is therefore
    the replica's own word, whatever signatures it carries.
    """

    def __init__(self, entry: ReplicaEntry, context: ssl.SSLContext, settings: LinkSettings, owner: LinkOwner) -> None:
        self._entry: Final = entry
        self._context = context
        self._settings = settings
        self._owner = owner
        self._open: Link | None = None
        self._backoff = Backoff(PAUSE_MIN_S, PAUSE_MAX_S)
        self.trouble = "not connected yet"  # empty while connected

    @property
    def is_up(self) -> bool:
        return self._open is not None

    def send(self, frame: bytes) -> None:
        """Send, or drop: what has no answer in time is sent again."""
        if self._open is not None:
            self._open.send(frame)
            self._open.flush()

    async def run(self) -> None:
        """Dial until cancelled."""
        while True:
            self.trouble = await self._dial_once()
            await asyncio.sleep(self._backoff.next())

    async def _dial_once(self) -> str:
        """One link from its beginning to its end; why there is none any more."""
        address = self._entry.client
        link = Link(self, self._settings)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    address.host,
                    address.port,
                    ssl=self._context,
                    ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                    ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
                )
        except OSError as error:  # TLS errors and time-outs are OSErrors
            return explain(error)
        try:
            keep_alive(transport.get_extra_info("socket"))
            await asyncio.shield(link.lost)
        except OSError as error:
            return explain(error)
        finally:
            link.close()
            await asyncio.wait((link.lost,), timeout=SHUTDOWN_TIMEOUT_S)
            transport.abort()
        return link.reason or "the replica closed the connection"

    # --- the handler of the link

    def admit(self, link: Link) -> None:
        certificate = link.certificate
        subject = certificate.subject_identity
        if subject.role is not Role.REPLICA or subject.name != str(self._entry.id):
            raise LinkRefused(f"at its address answers {subject.role} {subject.name}")
        if certificate.public_key.raw != self._entry.public_key:
            raise LinkRefused("its key is not the one that cluster.toml pins")

    def opened(self, link: Link) -> None:
        self._open = link
        self.trouble = ""
        self._backoff.reset()
        self._owner.on_up(self._entry.id)

    def received(self, link: Link, frames: list[tuple[int, bytes]]) -> None:
        try:
            self._owner.on_frames(self._entry.id, frames)
        except InvalidMessage as error:
            link.close(str(error))

    def closed(self, link: Link, reason: str) -> None:
        if self._open is link:
            self._open = None
            self.trouble = reason or "the replica closed the connection"
            self._owner.on_down(self._entry.id)
