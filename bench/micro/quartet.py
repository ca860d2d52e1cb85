"""Four cores in one process, without sockets and disk: real messages, codec and signatures, one thread."""

import time
from typing import Final

from bft.auth import Authenticator, KeySigner, VerifiedStatements
from bft.codec import FrameSplitter, Limits, MessageType, encode_frame
from bft.core import effects as fx
from bft.core.effects import Effect
from bft.core.events import ClientRequest, Instant, Received, SnapshotSaved, Start
from bft.core.messages import Authenticated, Reply, Request, RequestKind
from bft.core.parameters import Parameters
from bft.core.replica import Replica
from bft.statemachine.kv import KeyValue, encode_put
from bft.statemachine.replicated import ReplicatedState
from bft.storage.records import encode_record
from crypto.keys import PrivateKey
from crypto.signatures import Domain

N: Final = 4
KEYS: Final = 2000
VALUE: Final = bytes(100)
_DOMAIN: Final = Domain("micro", 0)
_HEAD_BYTES: Final = 6  # of a frame: length, type
_VOTES: Final = (MessageType.PREPARE, MessageType.COMMIT)


class _Anyone:
    """Admits every certificate."""

    def client_name(self, certificate: bytes, *, client: bytes, time_ns: int) -> str | None:
        return "client"


class _Node:
    def __init__(self, number: int, keys: list[PrivateKey], parameters: Parameters) -> None:
        limits, verified = Limits.of(parameters), VerifiedStatements()
        self.core = Replica(
            id=number,
            parameters=parameters,
            signer=KeySigner(keys[number], _DOMAIN, verified),
            admission=_Anyone(),
            application=ReplicatedState(KeyValue()),
        )
        self.gate = Authenticator(_DOMAIN, [key.public.raw for key in keys], limits, verified=verified)
        self.inbox: list[tuple[int, bytes]] = []
        self.splitters = [FrameSplitter(limits.peer) for _ in range(N)]


class Quartet:
    """A cluster, and a client whose session is open."""

    def __init__(self) -> None:
        keys = [PrivateKey.generate() for _ in range(N)]
        parameters = Parameters(n=N)
        self._nodes = [_Node(number, keys, parameters) for number in range(N)]
        key = PrivateKey.generate()
        self._client, self._signer = key.public.raw, KeySigner(key, _DOMAIN)
        self._replies: dict[int, Reply] = {}
        self._number = 0
        self._session = 0
        for number, node in enumerate(self._nodes):
            self._carry(number, node.core.step(Start(), self._now()))
        self._pump()
        self._submit([self._signer.sign(Request(self._client, 0, 1, 0, RequestKind.REGISTER, (b"certificate",)))])
        self._session = int.from_bytes(self._replies[1].outcome.results[0], "big")
        self._replies.clear()

    def commit(self, *, width: int, bundle: int) -> None:
        """One batch of `width` signed requests with `bundle` writes each, executed and answered at all four."""
        acked = self._number
        requests: list[Authenticated[Request]] = []
        for _ in range(width):
            self._number += 1
            first = self._number * bundle
            writes = tuple(encode_put(b"key%d" % (number % KEYS), VALUE) for number in range(first, first + bundle))
            kind = RequestKind.APPLICATION
            requests.append(self._signer.sign(Request(self._client, self._session, self._number, acked, kind, writes)))
        self._submit(requests)
        if self._number not in self._replies:
            raise RuntimeError("a request was not answered")
        self._replies.clear()

    def _submit(self, requests: list[Authenticated[Request]]) -> None:
        primary = self._nodes[0]
        effects: list[Effect] = []
        for request in requests:
            body = encode_frame(request)[_HEAD_BYTES:]
            effects += primary.core.absorb(ClientRequest(primary.gate.open_request(self._client, body)), self._now())
        effects += primary.core.settle(self._now())
        self._carry(0, effects)
        self._pump()

    def _carry(self, own: int, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case fx.Persist(record):
                    encode_record(record)
                case fx.Broadcast(message):
                    frame = encode_frame(message)
                    for number, node in enumerate(self._nodes):
                        if number != own:
                            node.inbox.append((own, frame))
                case fx.Send(to, message):
                    self._nodes[to].inbox.append((own, encode_frame(message)))
                case fx.SendReply(_, reply):
                    encode_frame(reply)
                    if own == 0 and isinstance(reply, Reply):
                        self._replies[reply.outcome.number] = reply
                case fx.SaveSnapshot(seq):
                    self._carry(own, self._nodes[own].core.step(SnapshotSaved(seq), self._now()))

    def _pump(self) -> None:
        while any(node.inbox for node in self._nodes):
            for number, node in enumerate(self._nodes):
                frames, node.inbox = node.inbox, []
                for sender, frame in frames:
                    self._take(number, node, sender, frame)
                if frames:
                    self._carry(number, node.core.settle(self._now()))

    def _take(self, number: int, node: _Node, sender: int, frame: bytes) -> None:
        for kind, body in node.splitters[sender].feed(frame):
            message = (
                node.gate.open_vote(sender, kind, body, node.core.is_redundant)
                if kind in _VOTES
                else node.gate.open_peer(sender, kind, body)
            )
            if message is not None:
                self._carry(number, node.core.absorb(Received(sender, message), self._now()))

    @staticmethod
    def _now() -> Instant:
        return Instant(time.monotonic_ns(), time.time_ns())
