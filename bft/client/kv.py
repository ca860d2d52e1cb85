"""The built-in key-value service, typed."""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple, TypeVar

from bft.client.proving import Stored
from bft.client.result import Consistency, Read, Result
from bft.errors import ApplicationError, VerificationFailed
from bft.state_proof import Proven, StateProof
from bft.statemachine import kv
from bft.statemachine.kv import (
    CasResult,
    Compare,
    DeleteResult,
    Entry,
    RangeResult,
    StoreStatus,
    TxnOperation,
    TxnResult,
)

T = TypeVar("T")


class ProvenEntry(NamedTuple):
    """What a stale read found: true at checkpoint `seq`, `age_s` seconds ago."""

    entry: Entry | None
    seq: int
    age_s: float
    proof: StateProof  # `proof.save(path)` for `bft receipt verify`


def entry_of(stored: Proven) -> Entry | None:
    """The entry that a proof shows.  Raises VerificationFailed if the value is none."""
    try:
        return None if stored.value is None else kv.decode_entry(stored.value)
    except ValueError as error:
        raise VerificationFailed("what is stored there is no entry of the key-value service") from error


class KeyValueClient(ABC):
    """What a client of a cluster with ``service = "bft.statemachine.kv:KeyValue"`` can ask.

    All of these are ordered like any other operation, reads included, and therefore linearizable, unless a read says
    otherwise by its ``consistency``.  They raise what `call` raises; keys of 1..2048 bytes and values of up to
    1,000,000 bytes are accepted.
    """

    __slots__ = ()

    @abstractmethod
    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        """Submit one operation of the service."""

    @abstractmethod
    async def query(
        self, operation: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> Read:
        """Have a read of the service carried out, ordered or not."""

    @abstractmethod
    async def prove_stored(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> Stored:
        """What is stored under a key of the service's own, with a proof."""

    async def prove(self, key: bytes, *, max_age: float | None = None, timeout: float | None = None) -> ProvenEntry:
        """The entry of ``key`` at a stable checkpoint, from one replica and verified; its proof is for others, too.

        ``max_age`` in seconds: how old the checkpoint may be, by this machine's clock; a replica whose is older is
        passed over.  Raises NoProof when none helps, as before the first checkpoint.

        >>> for _ in range(20):  # a checkpoint is taken every 4 batches here
        ...     revision = await client.put(b"greeting", b"hello")
        >>> found = await client.prove(b"greeting", max_age=3600)
        >>> found.entry.value, found.seq > 0
        (b'hello', True)
        """
        stored, proof, age_s = await self.prove_stored(kv.stored_key(key), max_age=max_age, timeout=timeout)
        return ProvenEntry(entry_of(stored), stored.seq, age_s, proof)

    async def put(self, key: bytes, value: bytes, *, ttl: float | None = None, timeout: float | None = None) -> int:
        """Write; the revision of the write, higher than that of every earlier one.

        With ``ttl`` the key is removed after so many seconds of the service's clock, unless it is written again.  The
        clock follows the agreed time and never runs ahead of it: a key lives that long, or, after an outage or on a
        cluster with nothing to do, longer.

        >>> revision = await client.put(b"greeting", b"hello")
        >>> await client.put(b"lease", b"worker 7", ttl=30) > revision
        True
        """
        return read(kv.decode_put, await self.call(kv.encode_put(key, value, ttl), timeout=timeout))

    async def get(
        self, key: bytes, *, consistency: Consistency = "ordered", timeout: float | None = None
    ) -> Entry | None:
        """The entry of ``key``, or None.

        ``"linearizable"`` spares the order where `query` can.  ``"stale"`` asks one replica and verifies what it
        proves, of a checkpoint that may be old: `prove` tells how old.

        >>> revision = await client.put(b"greeting", b"hello")
        >>> entry = await client.get(b"greeting")
        >>> entry.value, entry.mod_revision == revision
        (b'hello', True)
        """
        if consistency == "stale":
            return (await self.prove(key, timeout=timeout)).entry
        operation = kv.encode_get(key)
        return read(kv.decode_get, await self.query(operation, consistency=consistency, timeout=timeout))

    async def delete(self, key: bytes, *, timeout: float | None = None) -> DeleteResult:
        """Remove ``key``; whether it was there, and the revision of the deletion.

        >>> revision = await client.put(b"greeting", b"hello")
        >>> (await client.delete(b"greeting")).deleted, (await client.delete(b"greeting")).deleted
        (True, False)
        """
        return read(kv.decode_delete, await self.call(kv.encode_delete(key), timeout=timeout))

    async def range(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int = kv.RANGE_LIMIT_MAX,
        consistency: Consistency = "ordered",
        timeout: float | None = None,
    ) -> RangeResult:
        """Entries with start <= key < end (None: to the last key) in key order, at most ``limit`` (1..1000).

        ``prefix`` bounds the keys to those that begin so; ``start`` may say where among them to begin.  If there are
        more, ``next`` of the result is the ``start`` to go on from; `scan` does that.  ``consistency`` as for `get`;
        the revision is part of the result, so while others write a range is ordered more often than a `get`.

        >>> for name in (b"ada", b"bob", b"cyd"):
        ...     revision = await client.put(b"user/" + name, b"")
        >>> page = await client.range(prefix=b"user/", limit=2)
        >>> [key for key, entry in page.items], page.next
        ([b'user/ada', b'user/bob'], b'user/cyd')
        """
        if prefix is not None:
            start, end = within_prefix(prefix, start, end)
        operation = kv.encode_range(start, end, limit)
        return read(kv.decode_range, await self.query(operation, consistency=consistency, timeout=timeout))

    async def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes | None = None,
        limit: int = kv.RANGE_LIMIT_MAX,
        timeout: float | None = None,
    ) -> AsyncGenerator[tuple[bytes, Entry], None]:
        """As `range`, page after page of at most ``limit`` entries to the end.

        Each page is of one moment, and later ones of later moments; ``timeout`` is for each.

        >>> for name in (b"ada", b"bob", b"cyd"):
        ...     revision = await client.put(b"user/" + name, b"")
        >>> [key async for key, entry in client.scan(prefix=b"user/", limit=2)]
        [b'user/ada', b'user/bob', b'user/cyd']
        """
        following: bytes | None = start
        while following is not None:
            page = await self.range(following, end, prefix=prefix, limit=limit, timeout=timeout)
            for item in page.items:
                yield item
            following = page.next

    async def cas(
        self,
        key: bytes,
        expected: bytes | None,
        new: bytes | None,
        *,
        ttl: float | None = None,
        timeout: float | None = None,
    ) -> CasResult:
        """Replace the value ``expected`` by ``new``; None stands for no entry, so this also creates and deletes.

        >>> (await client.cas(b"lock", None, b"ada", ttl=30)).swapped
        True
        >>> taken = await client.cas(b"lock", None, b"bob", ttl=30)
        >>> taken.swapped, taken.previous.value
        (False, b'ada')
        """
        return read(kv.decode_cas, await self.call(kv.encode_cas(key, expected, new, ttl), timeout=timeout))

    async def txn(
        self,
        compare: Sequence[Compare] = (),
        then: Sequence[TxnOperation] = (),
        otherwise: Sequence[TxnOperation] = (),
        *,
        timeout: float | None = None,
    ) -> TxnResult:
        """If all of ``compare`` hold carry out ``then``, else ``otherwise``: in one step, all of it or nothing.

        The result has what each operation of the branch that was taken returned, in order.  At most 128 conditions, and
        128 operations in each branch.

        >>> from bft.client import Compare, Delete, Get, Put
        >>> revision = await client.put(b"from", b"10")
        >>> moved = await client.txn(
        ...     compare=[Compare.value(b"from", "==", b"10"), Compare.absent(b"to")],
        ...     then=[Put(b"to", b"10"), Delete(b"from")],
        ...     otherwise=[Get(b"from")],
        ... )
        >>> moved.succeeded, moved.results[0] == moved.revision
        (True, True)
        """
        operation = kv.encode_txn(compare, then, otherwise)
        result = await self.call(operation, timeout=timeout)
        return read(lambda value: kv.decode_txn(value, then, otherwise), result)

    async def store_status(self, *, timeout: float | None = None) -> StoreStatus:
        """The revision of the last write, and the first that `watch` can still begin with.

        >>> revision = await client.put(b"greeting", b"hello")
        >>> (await client.store_status()).revision == revision
        True
        """
        return read(kv.decode_status, await self.call(kv.encode_status(), timeout=timeout))


def within_prefix(prefix: bytes, start: bytes, end: bytes | None) -> tuple[bytes, bytes | None]:
    """The part of start..end whose keys begin with ``prefix``."""
    last = kv.prefix_end(prefix)
    ends = [bound for bound in (end, last) if bound is not None]
    return max(start, prefix), min(ends, default=None)


def read(decode: Callable[[bytes], T], result: Result | Read) -> T:
    """What the service answered.  Raises ApplicationError if it is another service."""
    try:
        return decode(result.value)
    except ValueError as error:
        raise ApplicationError(
            "bad_result", f"the cluster runs another service than the key-value store: {error}"
        ) from None
