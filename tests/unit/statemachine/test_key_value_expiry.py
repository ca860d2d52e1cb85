"""Keys that expire: by the agreed time, not all at once after an outage, and a bounded number an operation."""

import pytest

from bft.statemachine import kv
from bft.statemachine.kv.table import EXPIRE_MAX
from tests.unit.statemachine.kv_client import Client


@pytest.fixture
def client() -> Client:
    return Client(clock_advance_max_ms=10_000)


def keys(client: Client) -> list[bytes]:
    return [key for key, _ in client.range().items]


def test_a_key_is_there_until_its_time_has_come(client):
    client.put(b"k", b"v", 5)
    client.pass_time(4.9)
    entry = client.get(b"k")
    assert entry is not None
    assert entry.expires_ns is not None
    client.pass_time(0.2)
    assert client.get(b"k") is None
    assert keys(client) == []


def test_a_query_no_longer_sees_what_has_expired_by_the_last_agreed_time(client):
    client.put(b"k", b"v", 1)
    client.pass_time(2)
    client.call(b"not an operation")  # rolled back, with the removal of what expired
    assert client.query(kv.encode_get(b"k")) == client.query(kv.encode_get(b"none"))


def test_a_write_without_a_ttl_makes_a_key_last(client):
    client.put(b"k", b"1", 1)
    client.put(b"k", b"2")
    client.pass_time(5)
    entry = client.get(b"k")
    assert entry is not None
    assert (entry.value, entry.expires_ns, entry.version) == (b"2", None, 2)


def test_a_write_with_a_ttl_begins_it_anew(client):
    client.put(b"k", b"1", 3)
    client.pass_time(2)
    assert client.cas(b"k", b"1", b"1", 3).swapped
    client.pass_time(2)
    assert client.get(b"k") is not None
    client.pass_time(2)
    assert client.get(b"k") is None


def test_a_key_written_after_it_expired_starts_over(client):
    client.put(b"k", b"1", 1)
    client.pass_time(2)
    revision = client.put(b"k", b"2")
    assert client.get(b"k") == kv.Entry(b"2", revision, revision, 1)


def test_what_has_expired_is_no_longer_there_to_delete_or_to_swap(client):
    client.put(b"a", b"1", 1)
    client.put(b"b", b"1", 1)
    client.pass_time(2)
    assert not client.delete(b"a").deleted
    assert client.cas(b"b", b"1", b"2") == kv.CasResult(swapped=False, revision=0, previous=None)


def test_after_an_outage_whoever_holds_a_key_has_time_to_renew_it(client):
    client.put(b"lock", b"holder", 30)
    client.put(b"short", b"", 5)
    client.pass_time(3600)
    assert keys(client) == [b"lock"]  # the clock went on by ten seconds
    assert client.cas(b"lock", b"holder", b"holder", 30).swapped
    client.pass_time(9)
    assert keys(client) == [b"lock"]


def test_reads_alone_let_the_clock_go_on(client):
    client.put(b"k", b"v", 30)
    for _ in range(3):
        client.pass_time(9)
        assert client.get(b"k") is not None
    client.pass_time(9)
    assert client.get(b"k") is None


def test_an_operation_removes_a_bounded_number_and_the_others_are_gone_for_every_reader(client):
    count = 3 * EXPIRE_MAX
    for number in range(count):
        client.put(b"%04d" % number, b"v", 1)
    client.put(b"x", b"lasts")
    client.pass_time(2)
    assert keys(client) == [b"x"]
    assert client.status().expiring == count - 2 * EXPIRE_MAX
    assert client.get(b"%04d" % (count - 1)) is None
    assert client.status().expiring == 0


def test_a_range_passes_over_a_bounded_number_of_expired_keys_and_says_where_to_go_on():
    client = Client()
    for number in range(1100 + EXPIRE_MAX):
        client.put(b"%04d" % number, b"v", 1)
    client.put(b"x", b"lasts")
    client.pass_time(2)
    page = client.range()
    assert (page.items, page.more) == ((), True)
    while page.next is not None:
        page = client.range(page.next)
    assert [key for key, _ in page.items] == [b"x"]


def test_removals_of_what_expired_are_events(client):
    put = client.put(b"k", b"v", 1)
    client.pass_time(2)
    client.get(b"other")
    first, second = client.events()
    assert (first.revision, first.kind) == (put, kv.EventKind.PUT)
    assert (second.kind, second.key, second.entry) == (kv.EventKind.EXPIRE, b"k", None)


def test_where_nothing_expires_any_more_no_clock_is_kept(client):
    client.put(b"a")
    client.state.checkpoint(1)
    client.put(b"k", b"v", 1)
    client.delete(b"k")
    client.state.checkpoint(2)
    kinds = [{key[1:2] for key, _ in client.state.snapshot_items(seq) if key[:1] == b"a"} for seq in (1, 2)]
    assert kinds[0] == kinds[1] == {b"k", b"t"}


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), 4e9])
def test_a_ttl_that_makes_no_sense_is_refused_before_it_is_sent(ttl):
    with pytest.raises(ValueError, match="seconds"):
        kv.encode_put(b"k", b"v", ttl)


@pytest.mark.parametrize("ttl", [b"\x00", b"\xff", b"\xcf" + b"\xff" * 8])
def test_a_ttl_that_makes_no_sense_is_refused(client, ttl):
    assert client.code(b"\x94\x01\xc4\x01k\xc4\x01v" + ttl) == "bad_ttl"
    assert client.code(b"\x95\x05\xc4\x01k\xc0\xc4\x01v" + ttl) == "bad_ttl"
