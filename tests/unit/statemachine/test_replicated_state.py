"""ReplicatedState: execution, rollback, isolation, checkpoints, transfer."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from bft.statemachine import ApplicationError, Context, ReadContext, StateMachine
from bft.statemachine.keyspace import KEY_BYTES_MAX, VALUE_BYTES_MAX
from bft.statemachine.replicated import RESULT_BYTES_MAX, ReplicatedState
from bft.statemachine.results import Error, Ok, decode_result, encode_error, encode_ok
from bft.statemachine.store import application_key
from bft.statemachine.trie import EMPTY_ROOT, verify_proof

CLIENT = b"\x07" * 32


class Scripted(StateMachine):
    """Runs what a test hands it: `operation` names a function of the context."""

    def __init__(self) -> None:
        self.functions: dict[bytes, Callable[[Any], Any]] = {}
        self.contexts: list[Context | ReadContext] = []

    def apply(self, ctx: Context, operation: bytes) -> bytes:
        self.contexts.append(ctx)
        return cast("bytes", self.functions[operation](ctx))

    def query(self, ctx: ReadContext, operation: bytes) -> bytes:
        self.contexts.append(ctx)
        return cast("bytes", self.functions[operation](ctx))


class Bare(StateMachine):
    def apply(self, ctx: Context, operation: bytes) -> bytes:
        return b""


class Bench:
    """A replicated state whose operations are Python functions."""

    def __init__(self) -> None:
        self.service = Scripted()
        self.state = ReplicatedState(self.service)
        self.seq = 0

    def run(self, function, seq: int | None = None, time_ns: int = 1):
        self.seq = self.seq + 1 if seq is None else seq
        self.service.functions[b"op"] = function
        encoded = self.state.apply(b"op", client=CLIENT, client_name="ada", seq=self.seq, time_ns=time_ns)
        return decode_result(encoded)

    def ask(self, function):
        self.service.functions[b"op"] = function
        return decode_result(self.state.query(b"op", client=CLIENT, client_name="ada"))

    def put(self, key: bytes, value: bytes):
        return self.run(lambda ctx: ctx.store.put(key, value) or b"")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def transfer(source: ReplicatedState, target: ReplicatedState, seq: int) -> None:
    root = source.root_at(seq)
    assert root is not None
    target.begin_sync(seq, root)
    while paths := target.missing_nodes(50):
        nodes = source.read_nodes(seq, paths, 4096)
        assert nodes
        for path, encoding in nodes:
            assert target.accept_node(path, encoding)
        target.requeue_nodes(paths)
    assert target.sync_complete()
    target.finish_sync()


# --- contexts -------------------------------------------------------------------------------------


def test_an_operation_sees_who_and_when(bench):
    bench.run(lambda ctx: b"", seq=9, time_ns=1234)
    ctx = bench.service.contexts[-1]
    assert (ctx.client, ctx.client_name, ctx.seq, ctx.time_ns) == (CLIENT, "ada", 9, 1234)


def test_the_revision_counts_operations_in_their_order(bench):
    for seq in (3, 3, 7):
        bench.run(lambda ctx: b"", seq=seq)
    assert [ctx.revision for ctx in bench.service.contexts] == [1, 2, 3]


def test_a_query_sees_the_state_and_time_of_the_last_operation(bench):
    bench.run(lambda ctx: ctx.store.put(b"k", b"v") or b"", seq=9, time_ns=1234)
    assert bench.ask(lambda ctx: ctx.store.get(b"k")) == Ok(b"v")
    ctx = bench.service.contexts[-1]
    assert (ctx.seq, ctx.time_ns) == (9, 1234)


@pytest.mark.parametrize("write", [lambda s: s.put(b"k", b"v"), lambda s: s.delete(b"k")], ids=["put", "delete"])
def test_a_query_cannot_write(bench, write):
    assert isinstance(bench.ask(lambda ctx: write(ctx.store)), Error)
    assert bench.state.checkpoint(1) == EMPTY_ROOT


def test_a_store_kept_beyond_its_operation_cannot_be_written(bench):
    kept = []

    def keep(ctx):
        kept.append(ctx.store)
        return b""

    bench.run(keep)
    with pytest.raises(RuntimeError, match="during `apply`"):
        kept[0].put(b"k", b"v")


def test_a_service_without_queries_answers_with_an_error():
    result = decode_result(ReplicatedState(Bare()).query(b"", client=CLIENT, client_name="ada"))
    assert isinstance(result, Error)
    assert result.code == "no_queries"


# --- results and failures -------------------------------------------------------------------------


def test_a_result_round_trips():
    assert decode_result(encode_ok(b"value")) == Ok(b"value")
    assert decode_result(encode_error("code", "message")) == Error("code", "message")


@pytest.mark.parametrize("encoded", [b"", b"\x02", b"\x01", b"\x01\x00", b"\x01\x92\xa1a", b"\x01\x93\xa1a\xa1b\xa1c"])
def test_what_is_no_result_does_not_decode(encoded):
    with pytest.raises(ValueError, match=r"^not an encoded"):
        decode_result(encoded)


def test_an_application_error_reaches_the_client(bench):
    def refuse(ctx):
        raise ApplicationError("broke", "no money")

    assert bench.run(refuse) == Error("broke", "no money")


def test_a_message_that_has_no_utf8_form_still_reaches_the_client(bench):
    def refuse(ctx):
        raise ApplicationError("odd", "\ud800" * 300)

    result = bench.run(refuse)
    assert isinstance(result, Error)
    assert result.message.startswith("\\ud800")


@pytest.mark.parametrize("code", ["", "é", "a\nb", "x" * 33])
def test_an_error_code_is_short_printable_ascii(code):
    with pytest.raises(ValueError, match="error code"):
        ApplicationError(code)


def test_a_bug_of_the_service_is_reported_by_class_name_only(bench):
    def fail(ctx):
        raise KeyError(f"at {id(ctx)}")

    assert bench.run(fail) == Error("internal", "KeyError")


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_an_error_of_the_host_stops_the_replica(bench, error):
    def fail(ctx):
        raise error

    with pytest.raises(error):
        bench.run(fail)


@pytest.mark.parametrize("value", [None, "text", bytearray(b"x"), 7])
def test_a_result_that_is_not_bytes_rolls_back(bench, value):
    assert bench.run(lambda ctx: ctx.store.put(b"k", b"v") or value) == Error("internal", "TypeError")
    assert bench.ask(lambda ctx: b"%d" % (ctx.store.get(b"k") is None)) == Ok(b"1")


def test_a_result_that_is_too_large_rolls_back(bench):
    result = bench.run(lambda ctx: ctx.store.put(b"k", b"v") or bytes(RESULT_BYTES_MAX + 1))
    assert isinstance(result, Error)
    assert result.code == "result_too_large"
    assert bench.ask(lambda ctx: b"%d" % (ctx.store.get(b"k") is None)) == Ok(b"1")


@pytest.mark.parametrize("error", [ApplicationError("no"), ZeroDivisionError()])
def test_a_raising_operation_leaves_every_value_as_it_was(bench, error):
    for i in range(20):
        bench.put(b"key-%d" % i, b"old")
    before = dict(bench.state.snapshot_items(0)) if bench.state.checkpoint(0) else {}

    def fail(ctx):
        ctx.store.put(b"key-1", b"new")
        ctx.store.put(b"key-1", b"newer")
        ctx.store.delete(b"key-2")
        ctx.store.delete(b"key-3")
        ctx.store.put(b"key-3", b"again")
        ctx.store.put(b"added", b"x")
        ctx.store.delete(b"added")
        ctx.store.put(b"added", b"y")
        raise error

    bench.run(fail, seq=20)
    bench.state.checkpoint(1)
    after = dict(bench.state.snapshot_items(1))
    assert {k: v for k, v in after.items() if k[:1] == b"a"} == {k: v for k, v in before.items() if k[:1] == b"a"}


def test_a_refused_operation_counts_as_executed_on_every_replica(bench):
    bench.run(lambda ctx: b"")
    bench.run(lambda ctx: ctx.store.put(b"", b"") or b"")
    bench.run(lambda ctx: b"")
    assert bench.service.contexts[-1].revision == 3


# --- the store ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (b"", b"v", "bad_key"),
        (bytes(KEY_BYTES_MAX + 1), b"v", "bad_key"),
        ("text", b"v", "bad_key"),
        (bytearray(b"k"), b"v", "bad_key"),
        (b"k", bytes(VALUE_BYTES_MAX + 1), "bad_value"),
        (b"k", bytearray(b"v"), "bad_value"),
        (b"k", None, "bad_value"),
    ],
)
def test_a_write_outside_the_limits_is_refused(bench, key, value, code):
    result = bench.put(key, value)
    assert isinstance(result, Error)
    assert result.code == code


def test_a_write_at_the_limits_is_taken(bench):
    assert bench.put(bytes(KEY_BYTES_MAX), bytes(VALUE_BYTES_MAX)) == Ok(b"")


def test_a_range_within_an_operation_that_fails_leaves_no_trace(bench):
    """The range brings writes into the index that the rollback takes back."""
    bench.put(b"a", b"1")
    bench.put(b"d", b"1")

    def fail(ctx):
        ctx.store.delete(b"a")
        ctx.store.put(b"c", b"2")
        list(ctx.store.range())
        raise ApplicationError("no")

    bench.run(fail)
    bench.put(b"c", b"3")
    keys = bench.ask(lambda ctx: b"".join(key for key, _ in ctx.store.range()))
    assert keys == Ok(b"acd")


def test_a_long_range_may_delete_what_it_visits(bench):
    def fill(ctx):
        for i in range(1000):
            ctx.store.put(b"%04d" % i, b"")
        return b""

    def clear(ctx):
        for key, _ in ctx.store.range(b"0100", b"0900"):
            ctx.store.delete(key)
        return b"%d" % sum(1 for _ in ctx.store.range())

    bench.run(fill)
    assert bench.run(clear) == Ok(b"200")


def test_keys_that_come_and_go_are_not_remembered_when_nobody_asks_for_a_range(bench):
    for i in range(100):
        bench.put(b"%d" % i, b"v")
        bench.run(lambda ctx, i=i: b"%d" % ctx.store.delete(b"%d" % i))
    bench.state.checkpoint(1)
    space = bench.state._store.application
    assert (len(space._stale), len(space._dirty), len(space._data)) == (0, 0, 0)


# --- system records -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"secret", b"ssecret", b"s", b"\x00", b"\xffsecret", b"../ssecret"])
def test_no_application_key_reaches_a_system_record(bench, key):
    bench.state.put_system(b"secret", b"of the framework")

    def attack(ctx):
        assert ctx.store.get(key) is None
        ctx.store.put(key, b"overwritten")
        ctx.store.delete(key)
        return b"".join(value for _, value in ctx.store.range())

    assert bench.run(attack) == Ok(b"")
    assert bench.state.get_system(b"secret") == b"of the framework"


def test_an_unbounded_range_of_the_application_ends_before_the_system_records(bench):
    bench.state.put_system(b"a", b"system")
    bench.put(b"\xff" * 64, b"application")
    assert bench.ask(lambda ctx: b"".join(v for _, v in ctx.store.range(reverse=True))) == Ok(b"application")


def test_system_records_are_part_of_the_root(bench):
    before = bench.state.checkpoint(1)
    bench.state.put_system(b"session", b"x")
    changed = bench.state.checkpoint(2)
    bench.state.put_system(b"session", None)
    assert changed != before == bench.state.checkpoint(3)


def test_a_system_range_yields_its_prefix_in_order(bench):
    for key in (b"s/2", b"t", b"s/1", b"r", b"s/"):
        bench.state.put_system(key, b"v")
    assert [key for key, _ in bench.state.range_system(b"s/")] == [b"s/", b"s/1", b"s/2"]


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_checkpoint_stays_as_it_was_until_released(bench):
    bench.put(b"k", b"1")
    root = bench.state.checkpoint(10)
    bench.put(b"k", b"2")
    bench.state.checkpoint(20)
    assert bench.state.root_at(10) == root
    assert dict(bench.state.snapshot_items(10))[application_key(b"k")] == b"1"
    bench.state.release_below(20)
    assert bench.state.root_at(10) is None
    assert bench.state.root_at(20) is not None


def test_a_release_spares_the_checkpoints_to_keep(bench):
    for seq in (10, 20, 30):
        bench.state.checkpoint(seq)
    bench.state.release_below(30, keep=frozenset({10}))
    assert [bench.state.root_at(seq) is not None for seq in (10, 20, 30)] == [True, False, True]


def test_nodes_of_a_checkpoint_that_is_not_held_cannot_be_read(bench):
    assert bench.state.read_nodes(10, [b""], 1000) is None


def test_reading_nodes_honours_the_limit_but_yields_at_least_one(bench):
    for i in range(50):
        bench.put(b"key-%d" % i, b"v")
    bench.state.checkpoint(10)
    paths = [b"\xff", b"", b"\x01", b"\x02", b"\x00" * 99]
    assert [path for path, _ in bench.state.read_nodes(10, paths, 1) or []] == [b""]
    assert [path for path, _ in bench.state.read_nodes(10, paths, 10_000) or []] == [b"", b"\x01", b"\x02"]
    assert bench.state.read_nodes(10, [b"\xff"], 1000) == []


def test_a_key_is_provable_against_a_checkpoint(bench):
    bench.put(b"k", b"v")
    bench.put(b"l", b"w")
    root = bench.state.checkpoint(10)
    proof = bench.state.trie_at(10).prove(application_key(b"k"))
    assert verify_proof(root, application_key(b"k"), b"v", proof)


def test_a_snapshot_restores_the_same_state(bench):
    for i in range(30):
        bench.put(b"key-%d" % i, b"v")
    bench.state.put_system(b"session", b"x")
    root = bench.state.checkpoint(10)
    other = Bench()
    other.put(b"left over", b"v")
    assert other.state.restore(10, bench.state.snapshot_items(10)) == root == other.state.root_at(10)
    assert other.state.get_system(b"session") == b"x"
    assert other.ask(lambda ctx: b"".join(k for k, _ in ctx.store.range(limit=2))) == Ok(b"key-0key-1")


def test_a_snapshot_with_a_key_of_no_space_is_refused_and_changes_nothing(bench):
    bench.put(b"k", b"v")
    with pytest.raises(ValueError, match="no key space"):
        bench.state.restore(10, [(b"zkey", b"v")])
    assert bench.ask(lambda ctx: ctx.store.get(b"k")) == Ok(b"v")
    assert bench.state.root_at(10) is None


# --- state transfer -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["transfer", "snapshot"])
def test_a_replica_that_adopted_a_state_goes_on_exactly_as_the_others(bench, how):
    bench.put(b"k", b"v")
    bench.run(lambda ctx: b"", seq=5, time_ns=777)
    bench.state.checkpoint(10)
    late = Bench()
    late.put(b"stale", b"v")
    if how == "transfer":
        transfer(bench.state, late.state, 10)
    else:
        late.state.restore(10, bench.state.snapshot_items(10))
    for replica in (bench, late):
        replica.ask(lambda ctx: b"%d %d" % (ctx.seq, ctx.time_ns))
        replica.run(lambda ctx: ctx.store.put(b"r", b"%d" % ctx.revision) or b"", seq=11)
    asked = [replica.service.contexts[-2] for replica in (bench, late)]
    assert (asked[0].seq, asked[0].time_ns) == (asked[1].seq, asked[1].time_ns) == (5, 777)
    assert late.state.checkpoint(20) == bench.state.checkpoint(20)


def test_the_old_state_stays_readable_during_a_sync(bench):
    late = Bench()
    late.put(b"old", b"state")
    bench.put(b"k", b"v")
    late.state.begin_sync(10, bench.state.checkpoint(10))
    assert late.ask(lambda ctx: ctx.store.get(b"old")) == Ok(b"state")
    assert late.state.sync_progress() == (0, 1)


def test_an_aborted_sync_leaves_nothing_behind(bench):
    bench.put(b"k", b"v")
    late = Bench()
    late.state.begin_sync(10, bench.state.checkpoint(10))
    late.state.abort_sync()
    assert late.state.missing_nodes(10) == []
    assert not late.state.accept_node(b"", bench.state.read_nodes(10, [b""], 9)[0][1])
    assert late.state.sync_progress() == (0, 0)
    assert not late.state.sync_complete()


def test_an_incomplete_state_is_not_adopted(bench):
    bench.put(b"k", b"v")
    late = Bench()
    late.state.begin_sync(10, bench.state.checkpoint(10))
    with pytest.raises(RuntimeError, match="not complete"):
        late.state.finish_sync()


def test_a_sync_that_gets_a_newer_target_adopts_that(bench):
    for i in range(100):
        bench.put(b"key-%d" % i, b"v")
    late = Bench()
    late.state.begin_sync(10, bench.state.checkpoint(10))
    for path, encoding in bench.state.read_nodes(10, late.state.missing_nodes(5), 1 << 20):
        late.state.accept_node(path, encoding)
    bench.put(b"key-3", b"changed")
    bench.state.checkpoint(20)
    transfer(bench.state, late.state, 20)
    assert late.state.root_at(20) == bench.state.root_at(20)
    assert late.state.root_at(10) is None


# --- determinism ----------------------------------------------------------------------------------

_HISTORY = """
import random
from bft.statemachine.kv import KeyValue, encode_cas, encode_delete, encode_put, encode_range
from bft.statemachine.replicated import ReplicatedState
state, rng, results = ReplicatedState(KeyValue()), random.Random(7), []
for seq in range(1, 400):
    key = b"%d" % rng.randrange(60)
    operations = encode_put(key, key * 3), encode_delete(key), encode_range(key), encode_cas(key, None, b"x"), b"?"
    operation = rng.choice(operations)
    results.append(state.apply(operation, client=bytes(32), client_name="ada", seq=seq, time_ns=seq))
    if seq % 50 == 0:
        results.append(state.checkpoint(seq))
        results += [key + value for key, value in state.snapshot_items(seq)]
print(b"".join(results).hex())
"""


def test_the_same_history_gives_the_same_bytes_under_every_hash_seed():
    root = Path(__file__).parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _HISTORY],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("0", "1", "12345")
    }
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000
