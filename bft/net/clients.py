"""The clients' port: who may connect, and on which link an answer goes back."""

import ssl
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from bft.config import Address
from bft.net.inbox import Inbox, Source
from bft.net.link import Link, LinkRefused, LinkSettings
from bft.net.listener import Listener
from bft.net.notices import Notices
from crypto.certificates import Role

LINKS_MAX: Final = 512
LINKS_PER_CLIENT_MAX: Final = 16
INBOUND_ITEMS_MAX: Final = 512
INBOUND_BYTES_MAX: Final = 1 << 20
OUTBOUND_BYTES_MAX: Final = 8 << 20
_SESSIONS_PER_CLIENT_MAX: Final = 256  # whose link is remembered; of others the answer goes to all of the client's


class _Client:
    """One identity, with all its links."""

    __slots__ = ("links", "name", "sessions", "source")

    def __init__(self, key: bytes, name: str) -> None:
        self.name: Final = name
        self.source: Final = Source(replica=None, key=key, items_max=INBOUND_ITEMS_MAX, bytes_max=INBOUND_BYTES_MAX)
        self.links: list[Link] = []
        self.sessions: OrderedDict[int, Link] = OrderedDict()  # where each session last sent from


class ClientPort:
    """All links of clients and administrators."""

    def __init__(
        self,
        *,
        listen: Address,
        server_context: ssl.SSLContext,
        settings: LinkSettings,
        inbox: Inbox,
        notices: Notices,
        on_closed: Callable[[Link], None],
    ) -> None:
        self.traffic: Final = settings.traffic
        self._inbox = inbox
        self._notices = notices
        self._on_closed = on_closed  # of an admitted link
        self._clients: dict[bytes, _Client] = {}
        self._links = 0
        self._unflushed: dict[Link, None] = {}
        self.listener: Final = Listener("client", listen, server_context, lambda: Link(self, settings), notices)
        self.unsent = 0  # answers to clients that are gone
        self.closed_for_cause = 0  # links that sent what no client of this version sends

    def __len__(self) -> int:
        return self._links

    # --- answering

    def remember(self, client: bytes, session: int, link: Link) -> None:
        """Answers to this session go to this link from now on."""
        known = self._clients.get(client)
        if known is None or link not in known.links:
            return
        sessions = known.sessions
        if sessions.get(session) is not link:
            sessions[session] = link
            if len(sessions) > _SESSIONS_PER_CLIENT_MAX:
                sessions.popitem(last=False)

    def route(self, client: bytes, session: int) -> Iterable[Link]:
        """The links on which an answer to this session goes; all of the client's if it never sent one here."""
        known = self._clients.get(client)
        if known is None:
            return ()
        link = known.sessions.get(session)
        return known.links if link is None else (link,)

    def is_connected(self, client: bytes) -> bool:
        """Whether the client has a link here: else an answer need not even be encoded."""
        return client in self._clients

    def send(self, client: bytes, session: int, frame: bytes) -> None:
        """Queue an answer to a session of a client."""
        links = self.route(client, session)
        if not links:
            self.unsent += 1
        for link in links:
            self.send_on(link, frame)

    def send_on(self, link: Link, frame: bytes) -> None:
        """Queue an answer on one link."""
        link.send(frame)
        self._unflushed[link] = None

    def flush(self) -> None:
        """Send what is queued."""
        if self._unflushed:
            for link in self._unflushed:
                link.flush()
            self._unflushed.clear()

    def close(self) -> None:
        """Close every link."""
        for client in tuple(self._clients.values()):
            for link in tuple(client.links):
                link.close()

    # --- the handler of every link

    def admit(self, link: Link) -> None:
        subject = link.certificate.subject_identity
        if subject.role not in (Role.CLIENT, Role.ADMIN):
            raise LinkRefused(f"{subject.role} {subject.name} is no client: this is the clients' port")
        known = self._clients.get(link.certificate.public_key.raw)
        if self._links >= LINKS_MAX:
            raise LinkRefused(f"there are {LINKS_MAX} connections already")
        if known is not None and len(known.links) >= LINKS_PER_CLIENT_MAX:
            raise LinkRefused(f"{subject.role} {subject.name} has {LINKS_PER_CLIENT_MAX} connections already")
        self._links += 1
        key = link.certificate.public_key.raw
        client = self._clients.setdefault(key, known or _Client(key, subject.name))
        client.links.append(link)

    def opened(self, link: Link) -> None:
        pass

    def received(self, link: Link, frames: list[tuple[int, bytes]]) -> None:
        self._inbox.put(self._clients[link.certificate.public_key.raw].source, link, frames)

    def closed(self, link: Link, reason: str) -> None:
        key = link.certificate.public_key.raw
        client = self._clients[key]
        self._links -= 1
        self._unflushed.pop(link, None)
        self._on_closed(link)
        client.links.remove(link)
        for session in [session for session, at in client.sessions.items() if at is link]:
            del client.sessions[session]
        if not client.links:
            del self._clients[key]
        if reason:
            self.closed_for_cause += 1
            self._notices.warn(f"client {client.name}", "client link closed", client=client.name, reason=reason)
