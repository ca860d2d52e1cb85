"""The links between replicas: each dials every other and sends on the link that it dialled.

One direction a link: both sides know at once which link is whose, no tie between two crossing connections has to be
broken, and a peer that cannot be reached from here can still reach us.
"""

import ssl
from collections import Counter
from typing import Final

from bft.config import Address, ClusterConfig
from bft.net.dialer import Dialer
from bft.net.inbox import Inbox, Source
from bft.net.link import Link, LinkRefused, LinkSettings
from bft.net.listener import Listener
from bft.net.notices import Notices
from crypto.certificates import Role

INBOUND_ITEMS_MAX: Final = 4096
INBOUND_BYTES_MAX: Final = 16 << 20
OUTBOUND_BYTES_MAX: Final = 32 << 20
_REPLACED: Final = "the peer connected again"


def check_replica(link: Link, cluster: ClusterConfig, own: int) -> int:
    """The replica at the other end, proven by the pinned key.  Raises LinkRefused."""
    subject = link.certificate.subject_identity
    if subject.role is not Role.REPLICA:
        raise LinkRefused(f"{subject.role} {subject.name} is not a replica: this is the replicas' port")
    peer = int(subject.name)
    if peer == own or peer >= len(cluster.replicas):
        raise LinkRefused(f"there is no other replica {peer}")
    if link.certificate.public_key.raw != cluster.replicas[peer].public_key:
        raise LinkRefused(f"replica {peer} shows another key than cluster.toml pins")
    return peer


class _Dialled:
    """Handles the links of one dialer: nothing but a HELLO comes back on them."""

    def __init__(self, network: "PeerNetwork", peer: int) -> None:
        self._network = network
        self._peer = peer

    def admit(self, link: Link) -> None:
        found = check_replica(link, self._network.cluster, self._network.own)
        if found != self._peer:
            raise LinkRefused(f"replica {found} answers where replica {self._peer} was expected")

    def opened(self, link: Link) -> None:
        self._network.dialers[self._peer].opened(link)

    def received(self, link: Link, frames: list[tuple[int, bytes]]) -> None:
        link.close("frames on a link that only we send on")

    def closed(self, link: Link, reason: str) -> None:
        pass  # the dialer waits for the end of its link


class PeerNetwork:
    """All links to and from the other replicas; the handler of those that others dialled."""

    def __init__(
        self,
        cluster: ClusterConfig,
        own: int,
        *,
        listen: Address,
        server_context: ssl.SSLContext,
        client_context: ssl.SSLContext,
        settings: LinkSettings,
        inbox: Inbox,
        notices: Notices,
    ) -> None:
        self.cluster: Final = cluster
        self.own: Final = own
        self.traffic: Final = settings.traffic
        self._inbox = inbox
        self._notices = notices
        self._sources = {
            replica.id: Source(
                replica=replica.id,
                key=replica.public_key,
                items_max=INBOUND_ITEMS_MAX,
                bytes_max=INBOUND_BYTES_MAX,
            )
            for replica in cluster.replicas
            if replica.id != own
        }
        self._inbound: dict[int, Link] = {}
        self.listener: Final = Listener("peer", listen, server_context, lambda: Link(self, settings), notices)
        self.dialers: Final[dict[int, Dialer]] = {}
        for replica in cluster.replicas:
            if replica.id != own:
                self.dialers[replica.id] = self._dialer(replica.id, replica.peer, client_context, settings)
        self.unsent: Counter[int] = Counter()  # frames for peers that were not connected
        self._dropped_before: Counter[int] = Counter()  # on links that are gone
        self.closed_for_cause = 0  # links that sent what no peer of this version sends

    # --- sending

    def send(self, peer: int, frame: bytes) -> None:
        """Queue a frame for `peer`; lost, and counted, while there is no link: the protocol sends again."""
        dialer = self.dialers.get(peer)
        if dialer is None or dialer.link is None:
            self.unsent[peer] += 1
        else:
            dialer.link.send(frame)

    def broadcast(self, frame: bytes) -> None:
        """Queue a frame for every other replica."""
        for peer, dialer in self.dialers.items():
            if dialer.link is None:
                self.unsent[peer] += 1
            else:
                dialer.link.send(frame)

    def flush(self) -> None:
        """Send what is queued."""
        for dialer in self.dialers.values():
            if dialer.link is not None:
                dialer.link.flush()

    def is_connected(self, peer: int) -> bool:
        """Whether frames reach `peer` and its frames reach us."""
        return self.dialers[peer].link is not None and peer in self._inbound

    def trouble(self, peer: int) -> str:
        """Why we cannot send to `peer`; empty if we can."""
        return self.dialers[peer].trouble

    def dropped(self, peer: int) -> int:
        """Frames for `peer` that were given up."""
        link = self.dialers[peer].link
        return self.unsent[peer] + self._dropped_before[peer] + (link.dropped if link is not None else 0)

    def close_link_from(self, peer: int, reason: str) -> None:
        """Close the link on which `peer` sends."""
        link = self._inbound.get(peer)
        if link is not None:
            link.close(reason)

    def close(self) -> None:
        """Close every link."""
        for link in (*self._inbound.values(), *(d.link for d in self.dialers.values() if d.link is not None)):
            link.close()

    # --- links that others dialled

    def admit(self, link: Link) -> None:
        check_replica(link, self.cluster, self.own)

    def opened(self, link: Link) -> None:
        peer = int(link.certificate.subject_identity.name)
        previous = self._inbound.get(peer)
        self._inbound[peer] = link
        if previous is not None:
            previous.close(_REPLACED)
        if self.dialers[peer].link is None:
            self.dialers[peer].hurry()

    def received(self, link: Link, frames: list[tuple[int, bytes]]) -> None:
        self._inbox.put(self._sources[int(link.certificate.subject_identity.name)], link, frames)

    def closed(self, link: Link, reason: str) -> None:
        peer = int(link.certificate.subject_identity.name)
        if self._inbound.get(peer) is link:
            del self._inbound[peer]
        if reason:
            self.closed_for_cause += reason != _REPLACED
            self._notices.warn(f"inbound {peer}", "link closed", peer=peer, reason=reason)

    def _dialer(self, peer: int, address: Address, context: ssl.SSLContext, settings: LinkSettings) -> Dialer:
        handler = _Dialled(self, peer)
        return Dialer(peer, address, context, lambda: Link(handler, settings), self._notices)
