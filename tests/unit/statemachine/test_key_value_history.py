"""The history of the key-value service: complete since a revision, or said not to be."""

import msgpack
import pytest

from bft.statemachine import kv
from bft.statemachine.kv import EventKind, Put
from bft.statemachine.results import Ok, decode_result
from tests.unit.statemachine.kv_client import Client


@pytest.fixture
def client() -> Client:
    return Client(history_revisions=200)


def test_every_change_is_an_event_in_its_order(client):
    first = client.put(b"a", b"1")
    second = client.put(b"a", b"2")
    third = client.delete(b"a").revision
    assert client.events() == [
        kv.Event(first, EventKind.PUT, b"a", kv.Entry(b"1", first, first, 1)),
        kv.Event(second, EventKind.PUT, b"a", kv.Entry(b"2", second, first, 2)),
        kv.Event(third, EventKind.DELETE, b"a", None),
    ]
    assert client.status() == kv.StoreStatus(revision=third, oldest=1, expiring=0)


def test_what_changes_nothing_is_no_event(client):
    client.put(b"a")
    before = client.events()
    client.get(b"a")
    client.delete(b"b")
    client.cas(b"a", b"other", b"2")
    client.call(b"nonsense")
    assert client.events() == before


def test_events_can_be_had_of_a_range_and_since_a_revision(client):
    revisions = [client.put(key) for key in (b"a", b"b", b"c", b"b")]
    assert [event.key for event in client.events(1, b"b", b"c")] == [b"b", b"b"]
    assert [event.revision for event in client.events(revisions[1])] == revisions[1:]
    assert client.events(revisions[-1] + 1) == []
    assert client.events(10**18) == []


def test_the_history_of_many_writes_is_the_whole_of_them(client):
    everything = Client(history_revisions=10_000)
    revisions = [everything.put(b"%d" % (number % 7), bytes(number % 300)) for number in range(2000)]
    assert [event.revision for event in everything.events()] == revisions
    for since in (1, 2, 77, 1000, 1999):
        assert [event.revision for event in everything.events(since)] == revisions[since - 1 :]


def test_a_bounded_number_of_revisions_is_kept_and_what_is_older_is_said_to_be_gone(client):
    revisions = [client.put(b"k%d" % number) for number in range(2000)]
    status = client.status()
    kept = [event.revision for event in client.events(status.oldest)]
    assert kept == revisions[-len(kept) :]
    assert 200 <= len(kept) < 600
    answer = client.query(kv.encode_events(status.oldest - 1))
    assert isinstance(answer, Ok)
    assert kv.decode_events(answer.value) == status.oldest
    client.state.checkpoint(1)
    assert sum(key[1:2] == b"h" for key, _ in client.state.snapshot_items(1)) < 20


def test_a_bounded_number_of_bytes_is_kept():
    client = Client(history_bytes=100_000)
    for _ in range(20):
        client.put(b"k", bytes(30_000))
    assert 0 < len(client.events(client.status().oldest)) <= 3


def test_the_events_of_one_operation_are_never_parted(client):
    parts = [Put(b"%d" % number, bytes(8000)) for number in range(100)]
    wide = Client()
    revisions = [wide.txn([], parts).revision for _ in range(3)]
    since = 1
    for revision in revisions:
        answer = wide.query(kv.encode_events(since))
        assert isinstance(answer, Ok)
        events = kv.decode_events(answer.value)
        assert isinstance(events, kv.Events)
        assert [event.revision for event in events.events] == [revision] * len(parts)
        since = events.next


def test_a_question_to_be_asked_later_does_not_look_at_the_same_events_again(client):
    last = [client.put(b"a") for _ in range(50)][-1]
    answer, later = client.state.poll(kv.encode_events(1, b"b"), client=bytes(32), client_name="ada")
    assert later == kv.encode_events(last + 1, b"b")
    client.put(b"b")
    answer, nothing = client.state.poll(later, client=bytes(32), client_name="ada")
    assert nothing is None
    decoded = decode_result(answer)
    assert isinstance(decoded, Ok)
    events = kv.decode_events(decoded.value)
    assert isinstance(events, kv.Events)
    assert [event.key for event in events.events] == [b"b"]


def test_only_a_question_for_events_is_ever_asked_later(client):
    for operation in (kv.encode_get(b"k"), kv.encode_range(), kv.encode_status(), b"nonsense"):
        answer, later = client.state.poll(operation, client=bytes(32), client_name="ada")
        assert later is None
        assert decode_result(answer) == client.query(operation)


@pytest.mark.parametrize(
    "arguments",
    [[0, b"", None], [-1, b"", None], [1, b""], [1, None, None], [b"", b"", b""], [True, b"", None],
     [1, bytes(2049), None], [1, b"", bytes(2049)]],
)  # fmt: skip
def test_a_question_for_events_that_makes_no_sense_is_refused(client, arguments):
    assert client.code(msgpack.packb([7, *arguments])) == "bad_operation"
