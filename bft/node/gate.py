"""Frames become events: each is authenticated in the turn that the inbox gives its sender.

Signatures are verified here and not where frames arrive, so that a flood costs its sender's turns and no one else's.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from bft.auth import Authenticator
from bft.codec import MessageType, Prove, Query, Watch, decode_body
from bft.core.events import ClientRequest, Event, Received
from bft.core.messages import (
    Authenticated,
    Batches,
    Bodies,
    Commit,
    FetchState,
    Prepare,
    ReplyStable,
    Request,
    RequestKind,
    StateChunk,
)
from bft.errors import InvalidMessage
from bft.net.clients import ClientPort
from bft.net.inbox import Frame
from bft.net.link import Link
from crypto.certificates import Role

_VOTES: Final = frozenset({MessageType.PREPARE, MessageType.COMMIT})
_ANSWERS: Final[dict[int, type]] = {  # large, and of use only to who asked
    MessageType.BATCHES: Batches,
    MessageType.BODIES: Bodies,
    MessageType.STATE_CHUNK: StateChunk,
    MessageType.REPLY_STABLE: ReplyStable,
}
_NAMES: Final = {int(kind): kind.name for kind in MessageType}


class ClientQuery(NamedTuple):
    """A query, and where its answer goes."""

    link: Link
    query: Query | Watch | Prove


class StateQuestion(NamedTuple):
    """Nodes of a checkpoint, for a backup, and where the answer goes."""

    link: Link
    message: FetchState


class Gate:
    """Authenticates; what is refused is counted and its link closed.

    Open each frame only after the core consumed the one before: whether a vote is redundant depends on it.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        clients: ClientPort,
        is_redundant: Callable[[Prepare | Commit], bool],
        expects: Callable[[int, type], bool],
        *,
        pooled: bool,
    ) -> None:
        self._authenticator = authenticator
        self._clients = clients
        self._is_redundant = is_redundant
        self._expects = expects
        self._pooled = pooled
        self.invalid: Counter[str] = Counter()  # frames that were refused, by type
        self.received: Counter[str] = Counter()  # frames that came, by type
        self.redundant = 0  # votes that came when the quorum was complete, and answers to no question

    async def open(self, frame: Frame) -> Event | ClientQuery | StateQuestion | None:
        """What the frame says; None if it is refused or redundant."""
        name = _NAMES[frame.type]
        self.received[name] += 1
        try:
            if frame.source.replica is None:
                return await self._open_client(frame)
            return await self._open_peer(frame, frame.source.replica)
        except InvalidMessage as error:
            self.invalid[name] += 1
            frame.link.close(f"{name}: {error}")
            return None

    async def _open_peer(self, frame: Frame, sender: int) -> Event | None:
        if frame.type in _VOTES:
            vote = self._authenticator.open_vote(sender, frame.type, frame.body, self._is_redundant)
            if vote is None:
                self.redundant += 1
                return None
            return Received(sender, vote)
        answer = _ANSWERS.get(frame.type)
        if answer is not None and not self._expects(sender, answer):
            self.redundant += 1
            return None
        if self._pooled:
            return Received(sender, await self._authenticator.open_peer_async(sender, frame.type, frame.body))
        return Received(sender, self._authenticator.open_peer(sender, frame.type, frame.body))

    async def _open_client(self, frame: Frame) -> Event | ClientQuery | StateQuestion:
        if frame.type in (MessageType.QUERY, MessageType.WATCH, MessageType.PROVE):
            return ClientQuery(frame.link, decode_body(frame.type, frame.body, self._authenticator.limits).unverified)
        if frame.type == MessageType.FETCH_STATE:
            if frame.link.certificate.subject_identity.role is not Role.ADMIN:
                raise InvalidMessage("only an administrator reads the whole state")
            question = decode_body(frame.type, frame.body, self._authenticator.limits).unverified
            return StateQuestion(frame.link, question)
        if frame.type != MessageType.REQUEST:
            raise InvalidMessage("a client sends requests, queries and watches")
        request = self._authenticator.open_request(frame.source.key, frame.body)
        self._clients.remember(frame.source.key, answer_key(request), frame.link)
        return ClientRequest(request)


def answer_key(request: Authenticated[Request]) -> int:
    """What the answer to a request is routed by: its session, and before there is one, the registration's nonce."""
    message = request.message
    return message.number if message.kind is RequestKind.REGISTER else message.session
