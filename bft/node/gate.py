"""Frames become events: each is authenticated in the turn that the inbox gives its sender.

Signatures are verified here and not where frames arrive, so that a flood costs its sender's turns and no one else's.
"""

from collections import Counter
from typing import Final

from bft.auth import Authenticator
from bft.codec import MessageType, Query, decode_body
from bft.core.events import ClientRequest, Event, Received
from bft.core.messages import Authenticated, Request, RequestKind
from bft.errors import InvalidMessage
from bft.net.clients import ClientPort
from bft.net.inbox import Frame
from bft.net.link import Link

_NAMES: Final = {int(kind): kind.name for kind in MessageType}


class Gate:
    """Authenticates; what is refused is counted and its link closed."""

    def __init__(self, authenticator: Authenticator, clients: ClientPort, *, pooled: bool) -> None:
        self._authenticator = authenticator
        self._clients = clients
        self._pooled = pooled
        self.invalid: Counter[str] = Counter()  # frames that were refused, by type
        self.received: Counter[str] = Counter()  # frames that came, by type

    async def open(self, frames: list[Frame]) -> tuple[list[Event], list[tuple[Link, Query]]]:
        """The events in these frames, in order, and the queries of clients."""
        events: list[Event] = []
        queries: list[tuple[Link, Query]] = []
        for frame in frames:
            name = _NAMES[frame.type]
            self.received[name] += 1
            try:
                if frame.source.replica is not None:
                    events.append(await self._open_peer(frame, frame.source.replica))
                elif frame.type == MessageType.REQUEST:
                    events.append(await self._open_request(frame))
                elif frame.type == MessageType.QUERY:
                    query: Query = decode_body(frame.type, frame.body, self._authenticator.limits).unverified
                    queries.append((frame.link, query))
                else:
                    raise InvalidMessage(f"a client sends no {name}")
            except InvalidMessage as error:
                self.invalid[name] += 1
                frame.link.close(f"{name}: {error}")
        return events, queries

    async def _open_peer(self, frame: Frame, sender: int) -> Event:
        if self._pooled:
            return Received(sender, await self._authenticator.open_peer_async(sender, frame.type, frame.body))
        return Received(sender, self._authenticator.open_peer(sender, frame.type, frame.body))

    async def _open_request(self, frame: Frame) -> Event:
        if self._pooled:
            request = await self._authenticator.open_request_async(frame.source.key, frame.body)
        else:
            request = self._authenticator.open_request(frame.source.key, frame.body)
        self._clients.remember(frame.source.key, answer_key(request), frame.link)
        return ClientRequest(request)


def answer_key(request: Authenticated[Request]) -> int:
    """What the answer to a request is routed by: its session, and before there is one, the registration's nonce."""
    message = request.message
    return message.number if message.kind is RequestKind.REGISTER else message.session
