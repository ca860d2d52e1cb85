"""The key-value service against a model of a few dictionaries: whatever clients ask, whenever, refused or not."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bft.statemachine import kv
from bft.statemachine.kv import Compare, Delete, Get, Put, Range
from bft.statemachine.results import Error, Ok
from tests.unit.statemachine.kv_client import SECOND, Client

ADVANCE_S = 10
HISTORY = 150
KEYS = st.sampled_from([b"a", b"b", b"b\xff", b"c", b"\xff"])
VALUES = st.sampled_from([b"", b"1", b"2", bytes(3000)])
TTLS = st.sampled_from([None, None, 1, 3, 8, 30])
OPERATIONS = st.one_of(
    st.builds(Put, KEYS, VALUES, TTLS),
    st.builds(Delete, KEYS),
    st.builds(Get, KEYS),
    st.builds(Range, KEYS, st.none() | KEYS, st.integers(1, 4)),
)
COMPARES = st.one_of(
    st.builds(Compare.exists, KEYS),
    st.builds(Compare.absent, KEYS),
    st.builds(Compare.value, KEYS, st.sampled_from(["==", "!=", "<", ">"]), st.none() | VALUES),
    st.builds(Compare.version, KEYS, st.sampled_from(["==", "<", ">"]), st.integers(0, 3)),
)


@dataclass
class Model:
    """What the service should hold, and have told."""

    entries: dict[bytes, kv.Entry] = field(default_factory=dict)
    events: list[kv.Event] = field(default_factory=list)
    revision: int = 0  # of the operation under way
    last: int = 0  # of the last write
    now_ns: int = 0  # the clock, while something expires
    seen_ns: int = 0

    def copy(self) -> "Model":
        return Model(dict(self.entries), list(self.events), self.revision, self.last, self.now_ns, self.seen_ns)

    @property
    def expiring(self) -> list[tuple[int, bytes]]:
        return sorted((e.expires_ns, key) for key, e in self.entries.items() if e.expires_ns is not None)

    def begin(self, revision: int, time_ns: int) -> None:
        self.revision = revision
        if not self.expiring:
            self.now_ns = time_ns
        else:
            self.now_ns += min(time_ns - self.seen_ns, ADVANCE_S * SECOND)
        self.seen_ns = time_ns
        for expires_ns, key in self.expiring:
            if expires_ns <= self.now_ns:
                self._event(kv.EventKind.EXPIRE, key, None)

    def _event(self, kind: kv.EventKind, key: bytes, entry: kv.Entry | None) -> None:
        if entry is None:
            del self.entries[key]
        else:
            self.entries[key] = entry
        self.events.append(kv.Event(self.revision, kind, key, entry))
        self.last = self.revision

    def put(self, key: bytes, value: bytes, ttl: float | None) -> int:
        held = self.entries.get(key)
        if ttl is not None and all(other == key for _, other in self.expiring):
            self.now_ns = self.seen_ns  # nothing else expires: the clock has nobody to spare, and starts anew
        expires_ns = None if ttl is None else self.now_ns + round(ttl * SECOND)
        create, version = (self.revision, 1) if held is None else (held.create_revision, held.version + 1)
        self._event(kv.EventKind.PUT, key, kv.Entry(value, self.revision, create, version, expires_ns))
        return self.revision

    def delete(self, key: bytes) -> kv.DeleteResult:
        if key not in self.entries:
            return kv.DeleteResult(deleted=False, revision=0)
        self._event(kv.EventKind.DELETE, key, None)
        return kv.DeleteResult(deleted=True, revision=self.revision)

    def range(self, start: bytes, end: bytes | None, limit: int, last: int) -> kv.RangeResult:
        keys = [key for key in sorted(self.entries) if start <= key and (end is None or key < end)]
        items = tuple((key, self.entries[key]) for key in keys[:limit])
        return kv.RangeResult(items, keys[limit] if len(keys) > limit else None, last)

    def holds(self, compare: Compare) -> bool:
        entry = self.entries.get(compare.key)
        held: bytes | int | None
        if compare.target is kv.types.Target.VALUE:
            held = None if entry is None else entry.value
        else:
            held = 0 if entry is None else entry.version
        operand = compare.operand
        match compare.relation:
            case kv.types.Relation.EQUAL:
                return held == operand
            case kv.types.Relation.NOT_EQUAL:
                return held != operand
        if held is None or operand is None:
            return False
        less = compare.relation is kv.types.Relation.LESS
        return held < operand if less else held > operand  # type: ignore[operator]


class KeyValueMachine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        options = {"history_revisions": HISTORY, "clock_advance_max_ms": ADVANCE_S * 1000}
        self.client = Client(**options)
        self.twin = Client(**options)  # executes the same, checkpoints after each operation, is restarted
        self.model = Model()
        self.operations = 0

    def ask(self, operation: bytes) -> Ok | Error:
        self.operations += 1
        answer = self.client.call(operation)
        assert self.twin.call(operation) == answer
        self.twin.state.checkpoint(self.twin.seq)
        self.twin.state.release_below(self.twin.seq)
        return answer

    def value(self, operation: bytes) -> bytes:
        answer = self.ask(operation)
        self.model.begin(self.operations, self.client.time_ns)
        assert isinstance(answer, Ok), answer
        return answer.value

    @rule(seconds=st.sampled_from([0.5, 2, 9, 40]))
    def time_passes(self, seconds: float) -> None:
        self.client.pass_time(seconds)
        self.twin.pass_time(seconds)

    @rule(key=KEYS, value=VALUES, ttl=TTLS)
    def put(self, key: bytes, value: bytes, ttl: float | None) -> None:
        assert kv.decode_put(self.value(kv.encode_put(key, value, ttl))) == self.model.put(key, value, ttl)

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        assert kv.decode_delete(self.value(kv.encode_delete(key))) == self.model.delete(key)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert kv.decode_get(self.value(kv.encode_get(key))) == self.model.entries.get(key)

    @rule(key=KEYS, expected=st.none() | VALUES, new=st.none() | VALUES, ttl=TTLS)
    def cas(self, key: bytes, expected: bytes | None, new: bytes | None, ttl: float | None) -> None:
        result = kv.decode_cas(self.value(kv.encode_cas(key, expected, new, ttl)))
        held = self.model.entries.get(key)
        swapped = expected == (None if held is None else held.value)
        revision = 0
        if swapped and new is not None:
            revision = self.model.put(key, new, ttl)
        elif swapped:
            revision = self.model.delete(key).revision
        assert result == kv.CasResult(swapped, revision, held)

    @rule(
        compares=st.lists(COMPARES, max_size=2),
        then=st.lists(OPERATIONS, max_size=4),
        otherwise=st.lists(OPERATIONS, max_size=4),
        refused=st.booleans(),
    )
    def transact(self, compares, then, otherwise, refused) -> None:
        if refused:  # whatever it did before is undone, the removal of what expired with it
            bad = Put(b"", b"")
            answer = self.ask(kv.encode_txn(compares, [*then, bad], [*otherwise, bad]))
            assert isinstance(answer, Error)
            assert answer.code == "bad_key"
            return
        result = kv.decode_txn(self.value(kv.encode_txn(compares, then, otherwise)), then, otherwise)
        model = self.model
        assert result.succeeded == all(model.holds(compare) for compare in compares)
        told = len(model.events)
        last = self.history_before(model)
        for operation, part in zip(then if result.succeeded else otherwise, result.results, strict=True):
            match operation:
                case Put(key, value, ttl):
                    assert part == model.put(key, value, ttl)
                case Delete(key):
                    assert part == model.delete(key)
                case Get(key):
                    assert part == model.entries.get(key)
                case Range(start, end, limit):
                    assert part == model.range(start, end, limit, last)
        assert result.revision == (model.revision if len(model.events) > told else 0)

    @staticmethod
    def history_before(model: Model) -> int:
        """The store's revision as operations under way see it: that of the last one before them."""
        return max((event.revision for event in model.events if event.revision < model.revision), default=0)

    @rule(start=KEYS, end=st.none() | KEYS, limit=st.integers(1, 5))
    def range(self, start: bytes, end: bytes | None, limit: int) -> None:
        result = kv.decode_range(self.value(kv.encode_range(start, end, limit)))
        assert result == self.model.range(start, end, limit, self.history_before(self.model))

    @rule()
    def nonsense(self) -> None:
        assert isinstance(self.ask(b"nonsense"), Error)

    @rule()
    def restart(self) -> None:
        """The twin comes back from its checkpoint with nothing but the state."""
        self.twin.state.checkpoint(self.twin.seq)
        items = list(self.twin.state.snapshot_items(self.twin.seq))
        again = Client(**self.twin.options)
        again.seq, again.time_ns = self.twin.seq, self.twin.time_ns
        again.state.restore(again.seq, items)
        self.twin = again

    @invariant()
    def the_history_is_that_of_the_model_as_far_as_it_reaches(self) -> None:
        if not self.operations:
            return
        answer = self.client.query(kv.encode_status())
        assert isinstance(answer, Ok)
        status = kv.decode_status(answer.value)
        assert status.expiring == len(self.model.expiring)
        assert status.revision == self.model.last
        kept = [event for event in self.model.events if event.revision >= status.oldest]
        assert self.client.events(status.oldest) == kept
        assert len({event.revision for event in kept}) >= min(HISTORY, len({e.revision for e in self.model.events}))

    @invariant()
    def the_root_depends_on_the_content_alone(self) -> None:
        assert self.client.state.root() == self.twin.state.root()


TestKeyValue = pytest.mark.timeout(300)(KeyValueMachine.TestCase)
TestKeyValue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
