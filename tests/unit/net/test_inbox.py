"""The inbox: nobody starves, nobody's queue grows without bound."""

from typing import cast

from bft.net.inbox import Inbox, Source
from bft.net.link import Link


class FakeLink:
    def __init__(self) -> None:
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def source(replica: int | None, *, items: int = 10, size: int = 1000) -> tuple[Source, Link, FakeLink]:
    link = FakeLink()
    return Source(replica=replica, key=b"", items_max=items, bytes_max=size), cast("Link", link), link


def make() -> Inbox:
    return Inbox(lambda: None)


def test_senders_are_served_in_turn():
    inbox = make()
    first, second = source(1), source(2)
    inbox.put(*first[:2], [(1, b"a"), (1, b"b"), (1, b"c")])
    inbox.put(*second[:2], [(1, b"x")])
    assert [frame.body for frame in inbox.take(from_replicas=3, from_clients=0)] == [b"a", b"x", b"b"]
    assert [frame.body for frame in inbox.take(from_replicas=3, from_clients=0)] == [b"c"]
    assert not inbox


def test_a_flood_of_clients_does_not_delay_replicas():
    inbox = make()
    for number in range(100):
        inbox.put(*source(None)[:2], [(1, b"%d" % number)])
    inbox.put(*source(1)[:2], [(3, b"vote")])
    assert b"vote" in [frame.body for frame in inbox.take(from_replicas=8, from_clients=8)]


def test_a_flood_of_one_replica_does_not_delay_another():
    inbox = make()
    inbox.put(*source(1, items=10_000)[:2], [(1, b"flood")] * 5_000)
    inbox.put(*source(2)[:2], [(3, b"vote")])
    assert [frame.body for frame in inbox.take(from_replicas=2, from_clients=0)] == [b"flood", b"vote"]


def test_a_full_queue_stops_reading_until_half_of_it_was_served():
    inbox = make()
    sender, link, fake = source(1, items=4)
    inbox.put(sender, link, [(1, b"")] * 3)
    assert fake.reading
    inbox.put(sender, link, [(1, b"")])
    assert not fake.reading
    inbox.take(from_replicas=1, from_clients=0)
    assert not fake.reading
    inbox.take(from_replicas=1, from_clients=0)
    assert fake.reading


def test_bytes_fill_a_queue_as_items_do():
    inbox = make()
    sender, link, fake = source(1, size=100)
    inbox.put(sender, link, [(1, bytes(100))])
    assert not fake.reading
    inbox.take(from_replicas=1, from_clients=0)
    assert fake.reading


def test_a_frame_that_comes_wakes_the_node():
    woken = []
    inbox = Inbox(lambda: woken.append(True))
    inbox.put(*source(1)[:2], [(1, b"")])
    assert woken
