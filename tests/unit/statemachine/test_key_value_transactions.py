"""Transactions: compare, then, else, over several keys in one step."""

import msgpack
import pytest

from bft.statemachine import kv
from bft.statemachine.kv import Compare, Delete, Get, Put, Range
from tests.unit.statemachine.kv_client import Client


@pytest.fixture
def client() -> Client:
    return Client()


def test_what_is_compared_decides_the_branch(client):
    client.put(b"a", b"1")
    then, otherwise = [Put(b"b", b"then")], [Put(b"b", b"else")]
    for compare, branch in ((Compare.value(b"a", "==", b"1"), b"then"), (Compare.value(b"a", "==", b"2"), b"else")):
        result = client.txn([compare], then, otherwise)
        entry = client.get(b"b")
        assert entry is not None
        assert (entry.value, result.succeeded, result.revision) == (branch, branch == b"then", entry.mod_revision)


def test_all_operations_of_a_transaction_have_one_revision_and_see_one_another(client):
    client.put(b"gone")
    then = [Put(b"a", b"1"), Get(b"a"), Put(b"a", b"2"), Delete(b"gone"), Delete(b"gone"), Range(b"", None, 10)]
    result = client.txn([], then)
    revision = result.revision
    held = kv.Entry(b"2", revision, revision, 2)
    assert result.results == (
        revision,
        kv.Entry(b"1", revision, revision, 1),
        revision,
        kv.DeleteResult(deleted=True, revision=revision),
        kv.DeleteResult(deleted=False, revision=0),
        kv.RangeResult(((b"a", held),), None, revision - 1),
    )
    assert [event.revision for event in client.events(revision)] == [revision] * 3


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        (Compare.exists(b"k"), True), (Compare.exists(b"none"), False),
        (Compare.absent(b"k"), False), (Compare.absent(b"none"), True),
        (Compare.value(b"k", "==", b"m"), True), (Compare.value(b"k", "!=", b"m"), False),
        (Compare.value(b"k", "<", b"n"), True), (Compare.value(b"k", ">", b"l"), True),
        (Compare.value(b"k", "<", b"m"), False), (Compare.value(b"k", "==", None), False),
        (Compare.value(b"none", "==", None), True), (Compare.value(b"none", "!=", b"x"), True),
        (Compare.value(b"none", "<", b"x"), False), (Compare.value(b"none", ">", b""), False),
        (Compare.version(b"k", "==", 2), True), (Compare.version(b"none", "==", 0), True),
        (Compare.create_revision(b"k", "==", 1), True), (Compare.create_revision(b"k", ">", 1), False),
        (Compare.mod_revision(b"k", "==", 2), True), (Compare.mod_revision(b"k", "<", 3), True),
    ],
)  # fmt: skip
def test_a_condition_holds_where_it_should(client, compare, holds):
    client.put(b"k", b"l")
    client.put(b"k", b"m")
    assert client.txn([compare]).succeeded == holds


def test_all_conditions_must_hold(client):
    assert client.txn([Compare.absent(b"a"), Compare.absent(b"b")]).succeeded
    assert not client.txn([Compare.absent(b"a"), Compare.exists(b"b")]).succeeded


def test_a_transaction_that_only_reads_has_no_revision(client):
    client.put(b"k")
    assert client.txn([], [Get(b"k")]).revision == 0


def test_of_a_transaction_of_which_one_operation_is_refused_nothing_remains(client):
    client.put(b"a", b"before")
    before = client.events()
    assert client.code(kv.encode_txn([], [Put(b"a", b"after"), Delete(b"a"), Put(b"", b"")])) == "bad_key"
    entry = client.get(b"a")
    assert entry is not None
    assert entry.value == b"before"
    assert client.events() == before


def test_keys_of_a_transaction_may_expire(client):
    client.txn([], [Put(b"k", b"v", ttl=1)])
    client.pass_time(2)
    assert client.txn([Compare.absent(b"k")]).succeeded


def test_what_a_transaction_reads_is_bounded(client):
    client.put(b"k", bytes(400_000))
    assert len(client.txn([], [Get(b"k"), Get(b"k")]).results) == 2
    assert client.code(kv.encode_txn([], [Get(b"k")] * 3)) == "result_too_large"
    assert client.code(kv.encode_txn([], [Range()] * 3)) == "result_too_large"


def test_a_transaction_that_is_too_long_is_refused(client):
    most = [Delete(b"%d" % number) for number in range(kv.TXN_OPERATIONS_MAX)]
    assert client.txn([Compare.absent(b"k")] * kv.TXN_COMPARES_MAX, most, most).succeeded
    one_more = msgpack.packb([kv.Opcode.TXN, [], [[kv.Opcode.DELETE, b"k"]] * (len(most) + 1), []])
    assert client.code(one_more) == "bad_operation"
    too_many = [Compare.exists(b"k")] * (kv.TXN_COMPARES_MAX + 1)
    for compares, then, otherwise in (
        ([], [*most, Delete(b"k")], []),
        ([], [], [*most, Delete(b"k")]),
        (too_many, [], []),
    ):
        with pytest.raises(ValueError, match="at most 128 compares and 128 operations a branch"):
            kv.encode_txn(compares, then, otherwise)


def test_a_number_beyond_64_bits_is_the_callers_mistake():
    with pytest.raises(ValueError, match="64 bits"):
        kv.encode_txn([Compare.version(b"k", "==", 1 << 64)], [Get(b"k")])


PUT = [1, b"k", b"v"]


@pytest.mark.parametrize(
    "operation",
    [
        [6, [], []],
        [6, [], [], [], []],
        [6, [[0, 0, b"k"]], [], []],
        [6, [[4, 0, b"k", 1]], [], []],
        [6, [[0, 4, b"k", b"v"]], [], []],
        [6, [[True, 0, b"k", b"v"]], [], []],
        [6, [[0, 0, b"k", 1]], [], []],
        [6, [[1, 0, b"k", b"v"]], [], []],
        [6, [[1, 0, b"k", None]], [], []],
        [6, [[1, 0, b"k", True]], [], []],
        [6, [b"k"], [], []],
        [6, [], [b"k"], []],
        [6, [], [[]], []],
        [6, [], [[True, b"k", b"v"]], []],
        [6, [], [], [[1, b"k"]]],
        [6, [], [PUT], [[1, b"k", [b"v"]]]],
        [6, [], [[5, b"k", None, b"v"]], []],
        [6, [], [[6, [], [], []]], []],
        [6, [], [[7, 1, b"", None]], []],
        [6, [], [[8]], []],
        [6, [], [[9, b"k"]], []],
        [6, [[[[]]] * 100], [], []],
        [6, [[[]] * 128] * 128, [], []],
        [6, b"k", b"v", b"w"],
    ],
)
def test_a_hostile_transaction_is_refused_and_changes_nothing(client, operation):
    assert client.code(msgpack.packb(operation)) in ("bad_operation", "bad_transaction")
    assert client.get(b"k") is None


def test_a_relation_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="<="):
        Compare.version(b"k", "<=", 1)
