"""A dispatcher with scripted links, waiters without an event loop, and replicas that are a few lines."""

from dataclasses import dataclass, field
from pathlib import Path

from bft.auth import KeySigner
from bft.client.bundler import PendingCall
from bft.client.dispatcher import Dispatcher
from bft.client.errors import ClientClosed
from bft.client.result import Result
from bft.client.settings import ClientSettings
from bft.codec import Limits, MessageType, decode_body
from bft.config import Address, ClusterConfig, ReplicaEntry
from bft.core.messages import Authenticated, BatchResult, Outcome, Refusal, Reply, ReplyStatus, Request, RequestKind
from bft.core.parameters import Parameters
from bft.errors import Timeout
from bft.statemachine.results import encode_ok
from crypto.keys import PrivateKey
from crypto.signatures import Domain

KEY = PrivateKey.from_seed(b"c" * 32)
REPLICA_KEYS = [PrivateKey.from_seed(bytes([replica]) * 32) for replica in range(13)]
CERTIFICATE = b"certificate"
FRAME_HEAD_BYTES = 6
SESSION = 7


class Waiter:
    """What an asyncio.Future is to the dispatcher."""

    def __init__(self) -> None:
        self.result: Result | None = None
        self.error: BaseException | None = None
        self.cancelled = False

    @property
    def answer(self) -> Result:
        assert self.result is not None, self.error
        return self.result

    @property
    def ambiguous(self) -> bool:
        assert isinstance(self.error, Timeout | ClientClosed)
        return self.error.ambiguous

    def done(self) -> bool:
        return self.cancelled or self.result is not None or self.error is not None

    def set_result(self, result: Result) -> None:
        assert not self.done()
        self.result = result

    def set_exception(self, exception: BaseException) -> None:
        assert not self.done()
        self.error = exception


@dataclass
class FakeLinks:
    """Decodes what is sent; every link is up unless it is down."""

    limits: Limits
    n: int
    down: set[int] = field(default_factory=set)
    sent: list[tuple[int, Authenticated[Request]]] = field(default_factory=list)

    def send(self, replica: int, frame: bytes) -> None:
        if replica not in self.down:
            request = decode_body(MessageType.REQUEST, frame[FRAME_HEAD_BYTES:], self.limits).unverified
            self.sent.append((replica, request))

    def is_up(self, replica: int) -> bool:
        return replica not in self.down

    def trouble(self) -> str:
        return "; ".join(f"replica {replica}: down" for replica in sorted(self.down))


def cluster_of(parameters: Parameters, name: str = "test", *, epoch: int = 0) -> ClusterConfig:
    """A cluster of `REPLICA_KEYS` that nobody could connect to."""
    nowhere = Address("127.0.0.1", 1)
    keys = [key.public.raw for key in REPLICA_KEYS[: parameters.n]]
    replicas = tuple(ReplicaEntry(replica, key, nowhere, nowhere, nowhere) for replica, key in enumerate(keys))
    return ClusterConfig(name, epoch, "bft.statemachine.kv:KeyValue", Path("ca.crt"), replicas, parameters)


class World:
    """One client and what n replicas would answer it; `now` moves by hand, no jitter, and no request is audited."""

    def __init__(
        self, n: int = 4, *, session_window: int = 128, fast_reads: bool = False, chance=lambda: 1.0, **settings
    ) -> None:
        parameters = Parameters(n=n, session_window=session_window, fast_reads=fast_reads)
        self.n = n
        self.now = 100.0
        self.links = FakeLinks(Limits.of(parameters), n)
        self.nonces = iter(range(1000, 2000))
        self.dispatcher = Dispatcher(
            cluster=cluster_of(parameters),
            settings=ClientSettings(**settings),
            client=KEY.public.raw,
            certificate=CERTIFICATE,
            signer=KeySigner(KEY, Domain("test", 0)),
            links=self.links,
            nonce=lambda: next(self.nonces),
            jitter=lambda delay: delay,
            chance=chance,
        )

    @classmethod
    def registered(cls, n: int = 4, **settings) -> "World":
        world = cls(n, **settings)
        world.register()
        return world

    def register(self, session: int = SESSION) -> None:
        self.dispatcher.flush(self.now)
        request = self.take()[-1]
        assert request.message.kind is RequestKind.REGISTER
        self.answer(request, results=(session.to_bytes(8, "big"),), replicas=range(self.weak))

    @property
    def weak(self) -> int:
        return (self.n - 1) // 3 + 1

    def submit(self, *operations: bytes, timeout: float = 10.0, flush: bool = True) -> list[Waiter]:
        waiters = [Waiter() for _ in operations]
        for operation, waiter in zip(operations, waiters, strict=True):
            self.dispatcher.submit(PendingCall(operation, self.now + timeout, waiter))
        if flush:
            self.dispatcher.flush(self.now)
        return waiters

    def take(self) -> list[Authenticated[Request]]:
        """The requests sent since the last call, each once, in order."""
        requests = list({request.digest: request for _, request in self.links.sent}.values())
        self.links.sent.clear()
        return requests

    def receivers(self) -> list[int]:
        """Whom something was sent to since the last call."""
        receivers = [replica for replica, _ in self.links.sent]
        self.links.sent.clear()
        return receivers

    def pass_time(self, seconds: float) -> None:
        """As an event loop would: deadlines fire one after the other."""
        end = self.now + seconds
        while self.dispatcher.next_deadline <= end:
            self.now = max(self.now, self.dispatcher.next_deadline)
            self.dispatcher.on_deadline(self.now)
        self.now = end

    def answer(
        self,
        request: Authenticated[Request],
        *,
        replicas,
        results: tuple[bytes, ...] | None = None,
        status: ReplyStatus = ReplyStatus.EXECUTED,
        seq: int = 5,
        view: int = 0,
    ) -> None:
        outcome = outcome_of(request, results=results, status=status, seq=seq)
        for replica in replicas:
            self.dispatcher.on_reply(replica, reply_of(outcome, replica, view=view), self.now)

    def refuse(self, request: Authenticated[Request], *, replicas, reason: str = "overloaded") -> None:
        message = request.message
        for replica in replicas:
            self.dispatcher.on_refusal(replica, Refusal(message.session, message.number, reason), self.now)


def outcome_of(
    request: Authenticated[Request],
    *,
    results: tuple[bytes, ...] | None = None,
    status: ReplyStatus = ReplyStatus.EXECUTED,
    seq: int = 5,
) -> Outcome:
    message = request.message
    if results is None:
        executed = status is ReplyStatus.EXECUTED
        results = tuple(encode_ok(b"result of " + operation) for operation in message.operations) if executed else ()
    return Outcome(message.client, message.session, message.number, request.digest, seq, status, results)


def reply_of(outcome: Outcome, replica: int, *, view: int = 0) -> Reply:
    result = Authenticated(BatchResult(view, outcome.seq, b"r" * 32, replica), b"payload", b"s" * 64)
    return Reply(outcome, result, 0, 1, ())


def signed_request(*operations: bytes, number: int = 1, session: int = SESSION) -> Authenticated[Request]:
    request = Request(KEY.public.raw, session, number, 0, RequestKind.APPLICATION, operations)
    return KeySigner(KEY, Domain("test", 0)).sign(request)
