"""What a replicated service is written against: `StateMachine`, its contexts and its one error type.

A service is a deterministic function over `ctx.store`.  Everything that it may depend on is in the context and in the
operation; it keeps nothing between calls but the store, and reads no clock, no randomness, no file and no hash order.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

CODE_LENGTH_MAX: Final = 32
MESSAGE_LENGTH_MAX: Final = 256
NO_QUERIES: Final = "no_queries"


class ApplicationError(Exception):
    """An operation's deterministic refusal: its writes are rolled back and the client gets `code` and `message`.

    `code` is 1..32 printable ASCII characters; a message beyond 256 characters is cut.
    """

    def __init__(self, code: str, message: str = "") -> None:
        if not (0 < len(code) <= CODE_LENGTH_MAX and code.isascii() and code.isprintable()):
            raise ValueError(f"an error code is 1..{CODE_LENGTH_MAX} printable ASCII characters, not {code!r}")
        super().__init__(code, message)
        self.code: Final = code
        # A lone surrogate has no UTF-8 form and would fail when the result is encoded.
        self.message: Final = message.encode("utf-8", "backslashreplace").decode()[:MESSAGE_LENGTH_MAX]

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


class ReadStore(Protocol):
    """Ordered byte keys, read-only."""

    def get(self, key: bytes) -> bytes | None: ...

    def range(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield (key, value) for start <= key < end in key order (`end=None`: to the last key), at most `limit`.

        The store may be written meanwhile: a key deleted ahead is skipped, a key added ahead may be missed; which of
        the two is the same on every replica.
        """
        ...


class ReadWriteStore(ReadStore, Protocol):
    """Ordered byte keys; writes last only if the operation returns.  Keys 1..4096 bytes, values up to 1 MiB."""

    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> bool:
        """Remove `key`; False if it was not there."""
        ...


class Context:
    """What one ordered operation may depend on besides its own bytes.  Valid during its `apply` only."""

    __slots__ = ("client", "client_name", "revision", "seq", "store", "time_ns")

    def __init__(
        self, store: ReadWriteStore, time_ns: int, client: bytes, client_name: str, seq: int, revision: int
    ) -> None:
        self.store: Final = store
        self.time_ns: Final = time_ns  # the agreed time, the only clock; strictly increasing from batch to batch
        self.client: Final = client  # raw 32-byte Ed25519 public key
        self.client_name: Final = client_name  # as its certificate says
        self.seq: Final = seq  # of the batch; several operations share one
        self.revision: Final = revision  # number of this operation in the agreed order, from 1, never reused


class ReadContext:
    """What a query may depend on: the store as the last ordered operation left it, that operation's seq and time."""

    __slots__ = ("client", "client_name", "seq", "store", "time_ns")

    def __init__(self, store: ReadStore, time_ns: int, client: bytes, client_name: str, seq: int) -> None:
        self.store: Final = store
        self.time_ns: Final = time_ns
        self.client: Final = client
        self.client_name: Final = client_name
        self.seq: Final = seq


class Poll(NamedTuple):
    """What can be said to a read now, and, if there is nothing to tell yet, what to ask when the state has changed."""

    answer: bytes
    later: bytes | None = None


class StateMachine(ABC):
    """A service: a deterministic function over `ctx.store`; created once a process.

    It gets the cluster's `[service_options]` as keyword arguments, the same at every replica.
    """

    @abstractmethod
    def apply(self, ctx: Context, operation: bytes) -> bytes:
        """Execute one ordered operation and return its result, at most 2 MiB.

        `operation` is whatever a client sent: treat it as hostile.  Raise `ApplicationError` to refuse it; any other
        exception is a bug of the service, rolls back as well and is reported as `internal` with its class name.
        `MemoryError` and `RecursionError` depend on the host, not on the operation, and stop the replica.
        """

    def query(self, ctx: ReadContext, operation: bytes) -> bytes:
        """Answer a read without ordering it; nothing can be written."""
        raise ApplicationError(NO_QUERIES, "this service answers no queries")

    def poll(self, ctx: ReadContext, operation: bytes) -> Poll:
        """Answer a read of a client that is willing to wait for news.

        With `later` the replica asks that when the state has changed, again and again, and gives `answer` if the
        client's patience ends before.  So `later` should cost little: let it say what was looked at already.
        """
        return Poll(self.query(ctx, operation))

    def provable(self, key: bytes) -> bool:
        """Whether any client may have the stored value of `key`, with a proof; by default none may.

        A proof that there is nothing under `key` may show another record of the state, whichever is next to it in the
        Merkle tree: say yes only if all clients of the cluster may read everything.
        """
        return False
