"""The built-in key-value service, through the encodings that clients use."""

import msgpack
import pytest

from bft.statemachine import kv
from bft.statemachine.results import Error
from bft.statemachine.store import application_key
from tests.unit.statemachine.kv_client import Client


@pytest.fixture
def client() -> Client:
    return Client()


def test_what_is_put_is_read(client):
    revision = client.put(b"k", b"value")
    assert client.get(b"k") == kv.Entry(b"value", mod_revision=revision, create_revision=revision, version=1)


def test_what_was_never_put_is_absent(client):
    assert client.get(b"k") is None


def test_a_second_write_keeps_the_create_revision_and_counts_the_version(client):
    first = client.put(b"k", b"1")
    second = client.put(b"k", b"2")
    assert second > first
    assert client.get(b"k") == kv.Entry(b"2", mod_revision=second, create_revision=first, version=2)


def test_a_key_written_anew_after_its_deletion_starts_over(client):
    client.put(b"k")
    client.delete(b"k")
    revision = client.put(b"k")
    assert client.get(b"k") == kv.Entry(b"v", revision, revision, 1)


def test_a_delete_says_whether_there_was_something(client):
    revision = client.put(b"k")
    result = client.delete(b"k")
    assert result.deleted
    assert result.revision > revision
    assert client.delete(b"k") == kv.DeleteResult(deleted=False, revision=0)
    assert client.get(b"k") is None


def test_an_empty_value_is_a_value(client):
    client.put(b"k", b"")
    entry = client.get(b"k")
    assert entry is not None
    assert entry.value == b""


def keys_of(result: kv.RangeResult) -> list[bytes]:
    return [key for key, _ in result.items]


def test_a_range_is_ordered_and_half_open(client):
    for key in (b"b", b"a", b"d", b"c", b"\xff"):
        client.put(key)
    assert keys_of(client.range(b"a", b"c")) == [b"a", b"b"]
    assert keys_of(client.range(b"c", None)) == [b"c", b"d", b"\xff"]
    assert keys_of(client.range(b"c", b"c")) == []
    assert keys_of(client.range(b"d", b"a")) == []


def test_a_range_carries_entries(client):
    revision = client.put(b"k", b"value")
    items = ((b"k", kv.Entry(b"value", revision, revision, 1)),)
    assert client.range() == kv.RangeResult(items, next=None, revision=revision)


def test_a_range_cut_by_its_limit_says_so(client):
    for key in (b"a", b"b", b"c"):
        client.put(key)
    assert (keys_of(client.range(b"", None, 2)), client.range(b"", None, 2).more) == ([b"a", b"b"], True)
    assert (keys_of(client.range(b"", None, 3)), client.range(b"", None, 3).more) == ([b"a", b"b", b"c"], False)


def test_a_range_never_exceeds_its_size_and_yields_at_least_one_entry(client):
    for key in (b"a", b"b", b"c", b"d"):
        client.put(key, bytes(400_000))
    client.put(b"e" * kv.KEY_BYTES_MAX, bytes(kv.VALUE_BYTES_MAX))
    operation = kv.encode_range()
    assert len(client.value(operation)) <= kv.RANGE_BYTES_MAX
    assert (keys_of(client.range()), client.range().more) == ([b"a", b"b"], True)
    last = client.value(kv.encode_range(b"e"))
    assert len(last) <= kv.RANGE_BYTES_MAX
    assert len(kv.decode_range(last).items) == 1


@pytest.mark.parametrize("limit", [0, -1, 1001, 1 << 40, True])
def test_a_range_with_a_limit_out_of_bounds_is_refused(client, limit):
    assert client.code(msgpack.packb([4, b"", None, limit])) == "bad_operation"


def test_a_swap_happens_only_where_the_expected_value_is(client):
    first = client.put(b"k", b"1")
    held = kv.Entry(b"1", first, first, 1)
    assert client.cas(b"k", b"other", b"2") == kv.CasResult(swapped=False, revision=0, previous=held)
    result = client.cas(b"k", b"1", b"2")
    assert (result.swapped, result.previous) == (True, held)
    assert client.get(b"k") == kv.Entry(b"2", result.revision, first, 2)


def test_a_swap_from_absence_creates_once(client):
    assert client.cas(b"k", None, b"1").swapped
    assert not client.cas(b"k", None, b"2").swapped


def test_a_swap_to_absence_deletes(client):
    client.put(b"k", b"1")
    assert client.cas(b"k", b"1", None).swapped
    assert client.get(b"k") is None


def test_a_swap_from_absence_to_absence_writes_nothing(client):
    assert client.cas(b"k", None, None) == kv.CasResult(swapped=True, revision=0, previous=None)


def test_an_empty_value_is_not_absence_to_a_swap(client):
    client.put(b"k", b"")
    assert not client.cas(b"k", None, b"1").swapped
    assert client.cas(b"k", b"", b"1").swapped


@pytest.mark.parametrize("operation", [kv.encode_get(b"k"), kv.encode_range()], ids=["get", "range"])
def test_a_query_answers_as_the_ordered_read_does(client, operation):
    client.put(b"k")
    assert client.query(operation) == client.call(operation)


@pytest.mark.parametrize(
    "operation", [kv.encode_put(b"k", b"v"), kv.encode_delete(b"k"), kv.encode_cas(b"k", None, b"")]
)
def test_a_write_is_no_query(client, operation):
    result = client.query(operation)
    assert isinstance(result, Error)
    assert result.code == "bad_operation"
    assert client.get(b"k") is None


@pytest.mark.parametrize(
    "operation",
    [
        b"",
        b"\xc1",
        b"\x00",
        b"\x90",
        b"\xc0",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 2000,
        b"\x94" + b"\x93" * 1000,
        msgpack.packb([1]),
        msgpack.packb([1, b"k"]),
        msgpack.packb([1, b"k", b"v", b"more"]),
        msgpack.packb([1, "k", "v"]),
        msgpack.packb([1, b"k", None]),
        msgpack.packb([1, b"k", 7]),
        msgpack.packb([True, b"k", b"v"]),
        msgpack.packb([1.0, b"k", b"v"]),
        msgpack.packb([0]),
        msgpack.packb([6, b"k"]),
        msgpack.packb([-1, b"k"]),
        msgpack.packb([2, None]),
        msgpack.packb([3, [b"k"]]),
        msgpack.packb([4, None, None, 1]),
        msgpack.packb([4, b"", b"", 1.0]),
        msgpack.packb([4, b"", 5, 1]),
        msgpack.packb([5, b"k", 1, 2]),
        msgpack.packb([5, b"k", b"v"]),
        msgpack.packb({1: b"k"}),
        msgpack.packb([1, msgpack.ExtType(5, b"x"), b"v"]),
        msgpack.packb([1, msgpack.Timestamp(0), b"v"]),
        kv.encode_put(b"k", b"v") + b"\x00",
        kv.encode_put(b"k", b"v")[:-1],
    ],
)
def test_hostile_operation_bytes_are_refused(client, operation):
    assert client.code(operation) == "bad_operation"


@pytest.mark.parametrize("key", [b"", bytes(kv.KEY_BYTES_MAX + 1)])
def test_a_key_outside_the_limits_is_refused(client, key):
    assert client.code(kv.encode_put(key, b"v")) == "bad_key"
    assert client.code(kv.encode_cas(key, None, b"v")) == "bad_key"


def test_a_value_over_the_limit_is_refused(client):
    assert client.code(kv.encode_put(b"k", bytes(kv.VALUE_BYTES_MAX + 1))) == "bad_value"
    assert client.put(b"k", bytes(kv.VALUE_BYTES_MAX))


def test_a_stored_entry_can_be_read_from_a_proven_value(client):
    revision = client.put(b"k", b"value")
    client.state.checkpoint(1)
    stored = dict(client.state.snapshot_items(1))[application_key(kv.stored_key(b"k"))]
    assert kv.decode_entry(stored) == kv.Entry(b"value", revision, revision, 1)


@pytest.mark.parametrize("stored", [b"", b"\x01" * 24, b"\x02" + bytes(31), b"\x03" + bytes(40)])
def test_what_is_no_stored_entry_does_not_decode(stored):
    with pytest.raises(ValueError, match="not a stored entry"):
        kv.decode_entry(stored)


@pytest.mark.parametrize("decode", [kv.decode_put, kv.decode_get, kv.decode_delete, kv.decode_range, kv.decode_cas])
@pytest.mark.parametrize("result", [b"", b"\xc3", b"\x91\x01", b"\x92\x91\x01\xc2", b"\xc1", b"\x92\x01"])
def test_what_is_no_result_of_the_operation_does_not_decode(decode, result):
    with pytest.raises(ValueError, match=r"^not "):
        decode(result)
