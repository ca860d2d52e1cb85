"""The replicated state as the protocol core drives it: execute, checkpoint, read nodes, adopt another state."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import islice
from typing import Final, Protocol

from bft.statemachine.api import MESSAGE_LENGTH_MAX, ApplicationError, Context, Poll, ReadContext, StateMachine
from bft.statemachine.keyspace import ReadView
from bft.statemachine.results import encode_error, encode_ok
from bft.statemachine.scrub import Scrub
from bft.statemachine.store import Store, is_application_key, system_key
from bft.statemachine.sync import StateSync
from bft.statemachine.trie import MerkleTrie

RESULT_BYTES_MAX: Final = 2 << 20
_INTERNAL: Final = "internal"
_POSITION_KEY: Final = b"statemachine/position"  # system record; the core uses other names
_POSITION: Final = struct.Struct(">QQQ")  # operations executed; seq and agreed time of the last of them
_POSITION_RECORD: Final = system_key(_POSITION_KEY)
_KEPT_AT_GENESIS: Final = (_POSITION_RECORD, system_key(b"clock"))  # the core's agreed time


def genesis_content(items: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """What a new cluster begins with when it is given a state: the service's, the time and the count of operations.

    Not the sessions: what one is called is its place in the order of the old cluster, and the new one counts from 1.
    """
    content = {key: value for key, value in items if is_application_key(key) or key in _KEPT_AT_GENESIS}
    if record := content.get(_POSITION_RECORD):
        operations, _, time_ns = _POSITION.unpack(record)
        content[_POSITION_RECORD] = _POSITION.pack(operations, 0, time_ns)
    return content


class Fetched(Protocol):
    """Keeps what a sync has brought, for the case that the process ends before it is complete."""

    def held(self) -> Iterator[tuple[bytes | None, bytes]]:
        """What an earlier process left: (None, root) of each target, (path, encoding) of each node, in order."""
        ...

    def target(self, root: bytes) -> None: ...

    def node(self, path: bytes, encoding: bytes) -> None: ...

    def forget(self) -> None: ...


class ReplicatedState:
    """A service, its store, the checkpoints that peers may still ask for, and at most one state being fetched.

    Everything that outlives a call and that `apply` or `query` can tell is in the store, hence under the root: a
    replica that restarted, or adopted a peer's state, goes on exactly as the others do.
    """

    def __init__(self, service: StateMachine) -> None:
        self._service: Final = service
        self._store: Final = Store()
        self._read_view: Final = ReadView(self._store.application)
        self._operations = 0
        self._last_seq = 0
        self._last_time_ns = 0
        self._pinned: dict[int, MerkleTrie] = {}  # checkpoint by seq; bounded by `release_below`
        self._sync: tuple[int, StateSync] | None = None
        self._suspect: MerkleTrie | None = None  # the wrong state, while it is repaired
        self._fetched: Fetched | None = None
        self._unfinished: StateSync | None = None  # what an earlier process fetched, until a sync goes on with it

    # --- execution ------------------------------------------------------------------------------------------------

    def apply(self, operation: bytes, *, client: bytes, client_name: str, seq: int, time_ns: int) -> bytes:
        """Execute one ordered operation; its encoded result, an error result if the service refused or failed.

        Raises for nothing that the operation does, except MemoryError and RecursionError: these come from the host's
        condition, so other replicas may have gone on, and the replica has to stop rather than diverge.
        """
        self._operations = revision = self._operations + 1
        self._last_seq = seq
        self._last_time_ns = time_ns
        store = self._store.application
        store.begin()
        try:
            value = self._service.apply(Context(store, time_ns, client, client_name, seq, revision), operation)
            result = _checked(value)
        except ApplicationError as error:
            store.rollback()
            return encode_error(error.code, error.message)
        except (MemoryError, RecursionError):
            raise
        except Exception as error:  # noqa: BLE001 (the service's own bug, the same on every replica)
            store.rollback()
            return _encode_internal(error)
        store.commit()
        return result

    def query(self, operation: bytes, *, client: bytes, client_name: str) -> bytes:
        """Answer a read from the state after the last executed operation; the encoded result, never raises."""
        context = ReadContext(self._read_view, self._last_time_ns, client, client_name, self._last_seq)
        try:
            return _checked(self._service.query(context, operation))
        except ApplicationError as error:
            return encode_error(error.code, error.message)
        except Exception as error:  # noqa: BLE001 (a query is not ordered and changes nothing: no replica need stop)
            return _encode_internal(error)

    def poll(self, operation: bytes, *, client: bytes, client_name: str) -> Poll:
        """As `query`, of a client that is willing to wait: see `StateMachine.poll`."""
        context = ReadContext(self._read_view, self._last_time_ns, client, client_name, self._last_seq)
        try:
            answer, later = self._service.poll(context, operation)
            return Poll(_checked(answer), later)
        except ApplicationError as error:
            return Poll(encode_error(error.code, error.message))
        except Exception as error:  # noqa: BLE001 (as above)
            return Poll(_encode_internal(error))

    def provable(self, key: bytes) -> bool:
        """Whether the service lets clients have proofs of what is stored under `key`."""
        return self._service.provable(key)

    # --- records of the framework -----------------------------------------------------------------------------------

    def put_system(self, key: bytes, value: bytes | None) -> None:
        """Write (None: remove) a record that is part of the replicated state but out of the service's reach."""
        self._store.system.set(key, value)

    def get_system(self, key: bytes) -> bytes | None:
        return self._store.system.get(key)

    def range_system(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the records whose key starts with `prefix`, in key order."""
        for key, value in self._store.system.range(prefix):
            if not key.startswith(prefix):
                return
            yield key, value

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def checkpoint(self, seq: int) -> bytes:
        """Return the root of the state now, which stays readable as checkpoint `seq` until released."""
        root = self.root()
        self._pinned[seq] = self._store.trie
        if self._unfinished is not None:  # who executes is not so far behind that it would be of use
            self._forget_fetched()
        return root

    def root(self) -> bytes:
        """Return the root of the state now; it depends on the content alone, not on when it is asked for."""
        if self._operations:
            position = _POSITION.pack(self._operations, self._last_seq, self._last_time_ns)
            self._store.system.set(_POSITION_KEY, position)
        return self._store.checkpoint()

    def release_below(self, seq: int, *, keep: frozenset[int] = frozenset()) -> None:
        """Let go of the checkpoints before `seq`, but for those in `keep`."""
        self._pinned = {held: trie for held, trie in self._pinned.items() if held >= seq or held in keep}

    def root_at(self, seq: int) -> bytes | None:
        trie = self._pinned.get(seq)
        return None if trie is None else trie.root

    def trie_at(self, seq: int) -> MerkleTrie | None:
        """Return the held checkpoint `seq`, to prove keys against its root (`store.application_key`)."""
        return self._pinned.get(seq)

    def read_nodes(self, seq: int, paths: Sequence[bytes], bytes_max: int) -> list[tuple[bytes, bytes]] | None:
        """Return (path, encoding) of nodes of checkpoint `seq`, in the order asked, up to about `bytes_max` in all.

        At least one node if any of `paths` exists; paths without a node are left out; None if the checkpoint is not
        held.  A peer chooses `paths`: nothing in them is trusted, their number is the caller's to limit.
        """
        trie = self._pinned.get(seq)
        if trie is None:
            return None
        nodes: list[tuple[bytes, bytes]] = []
        size = 0
        for path in paths:
            encoding = trie.read_node(path)
            if encoding is None:
                continue
            size += len(path) + len(encoding)
            if nodes and size > bytes_max:
                break
            nodes.append((path, encoding))
        return nodes

    def snapshot_items(self, seq: int) -> Iterator[tuple[bytes, bytes]]:
        """Return the content of checkpoint `seq` for `restore`; KeyError if it is not held.

        The iterator stays valid whatever is executed or released meanwhile.
        """
        return self._pinned[seq].items()

    def restore(self, seq: int, items: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Become the state of a snapshot, pinned as checkpoint `seq`; its root, for the caller to compare.

        ValueError, and nothing changed, if `items` are not of a snapshot.
        """
        self._adopt(seq, MerkleTrie().update(dict(items)))
        return self._store.trie.root

    def scrub(self) -> Scrub:
        """Begin to look for values that changed by themselves since the last checkpoint was taken."""
        return self._store.scrub()

    # --- fetching another state ---------------------------------------------------------------------------------------

    def keep_fetched(self, fetched: Fetched) -> int:
        """Keep there what a sync brings; what an earlier one left is verified and gone on with: how many nodes.

        Called with the state as recovered, before any sync.
        """
        self._fetched = fetched
        sync: StateSync | None = None
        nodes = 0
        for path, content in fetched.held():
            if path is None:
                sync = StateSync(content, self._store.trie) if sync is None else sync.towards(content)
            elif sync is not None:
                nodes += sync.accept(path, content)
        self._unfinished = sync
        return nodes

    def begin_sync(self, seq: int, root: bytes) -> None:
        """Start to fetch checkpoint `seq` with the certified `root`; the state here stays as it is meanwhile.

        During a sync: change the target, keeping what has been received so far.
        """
        earlier, self._unfinished = self._unfinished, None
        if self._sync is not None:
            earlier = self._sync[1]
        sync = StateSync(root, self._store.trie) if earlier is None else earlier.towards(root)
        self._sync = seq, sync
        if self._fetched is not None and self._suspect is None and not sync.complete:
            self._fetched.target(root)

    def begin_repair(self, seq: int, root: bytes) -> bytes:
        """As `begin_sync`, when the state here is wrong; the root of what it really holds.

        Nothing is taken on trust: the trie is built afresh from the values, so that no stale hash passes for a sound
        value.  O(state).  The checkpoints from `seq` on are let go of, for they may be wrong as well.
        """
        self._forget_fetched()
        held = self._pinned.get(seq, self._store.trie)
        self._suspect = MerkleTrie().update(dict(held.items()))
        self._pinned = {at: trie for at, trie in self._pinned.items() if at < seq}
        self._sync = seq, StateSync(root, self._suspect)
        return self._suspect.root

    def differences(self, limit: int) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """After a repair: the first keys whose value was not the certified one, and SHA-256 of both; then forgotten."""
        suspect, self._suspect = self._suspect, None
        if suspect is None:
            return []
        changes = islice(self._store.trie.changes_since(suspect), limit)
        return [(key, _digest(suspect.get(key)), _digest(value)) for key, value in changes]

    def missing_nodes(self, limit: int) -> list[bytes]:
        """Return at most `limit` paths to ask peers for; none twice unless requeued."""
        return [] if self._sync is None else self._sync[1].missing(limit)

    def accept_node(self, path: bytes, encoding: bytes) -> bool:
        """Take a node from a peer; False, and nothing changed, if it is not what the root says belongs there."""
        accepted = self._sync is not None and self._sync[1].accept(path, encoding)
        if accepted and self._fetched is not None and self._suspect is None:  # what is repaired is not gone on with
            self._fetched.node(path, encoding)
        return accepted

    def requeue_nodes(self, paths: Iterable[bytes]) -> None:
        if self._sync is not None:
            self._sync[1].requeue(paths)

    def sync_complete(self) -> bool:
        return self._sync is not None and self._sync[1].complete

    def sync_progress(self) -> tuple[int, int]:
        """Nodes received, and nodes known to be missing; (0, 0) without a sync."""
        return (0, 0) if self._sync is None else self._sync[1].progress

    def finish_sync(self) -> None:
        """Adopt the fetched state, pinned as its checkpoint; RuntimeError unless `sync_complete`."""
        if self._sync is None:
            raise RuntimeError("no state is being fetched")
        seq, sync = self._sync
        self._adopt(seq, sync.result())
        self._sync = None
        self._forget_fetched()

    def abort_sync(self) -> None:
        """Forget the sync and what it received."""
        self._sync = None
        self._forget_fetched()

    def _forget_fetched(self) -> None:
        self._unfinished = None
        if self._fetched is not None:
            self._fetched.forget()

    def _adopt(self, seq: int, trie: MerkleTrie) -> None:
        position = (0, 0, 0)
        if record := self._store.system_record_in(trie, _POSITION_KEY):
            if len(record) != _POSITION.size:
                raise ValueError("the state's position record is malformed")
            position = _POSITION.unpack(record)
        self._store.load(trie)
        self._operations, self._last_seq, self._last_time_ns = position
        self._pinned[seq] = trie


def _digest(value: bytes | None) -> bytes | None:
    return None if value is None else sha256(value).digest()


def _checked(value: bytes) -> bytes:
    if type(value) is not bytes:
        raise TypeError("a service returns bytes")
    if len(value) > RESULT_BYTES_MAX:
        raise ApplicationError("result_too_large", f"a result is at most {RESULT_BYTES_MAX} bytes")
    return encode_ok(value)


def _encode_internal(error: Exception) -> bytes:
    # The class name only: a message may hold an address or a path and differ between replicas.
    return encode_error(_INTERNAL, type(error).__name__[:MESSAGE_LENGTH_MAX])
