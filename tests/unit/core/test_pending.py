"""Whose requests are held and proposed when there are more than fit."""

from bft.core.effects import Rejection
from bft.core.messages import Request, RequestKind
from bft.core.parameters import Parameters
from bft.core.pending import PendingRequests
from bft.testing.symbolic import ClientSigner, Registry

ALICE, BOB, CAROL = (bytes([value]) * 32 for value in (1, 2, 3))
REGISTRY = Registry(4)


def request(client, number):
    return large_request(client, number, 1)


def large_request(client, number, size):
    return ClientSigner(REGISTRY, client).sign(Request(client, 1, number, 0, RequestKind.APPLICATION, (bytes(size),)))


def pending(**limits):
    return PendingRequests(Parameters(n=4, **limits))


def offer(table, client, numbers, origin=None):
    return [table.add(request(client, number), origin=origin or client, now_ns=0) for number in numbers]


def numbers(requests, client):
    return [r.message.number for r in requests if r.message.client == client]


def test_requests_of_different_clients_are_proposed_in_turn():
    table = pending(batch_requests_max=4)
    offer(table, ALICE, range(1, 100))
    offer(table, BOB, (1, 2))
    batch = table.take()
    assert numbers(batch, ALICE) == [1, 2]
    assert numbers(batch, BOB) == [1, 2]


def test_whose_turn_it_is_does_not_begin_anew_with_each_batch():
    table = pending(batch_requests_max=1)
    for client in (ALICE, BOB, CAROL):
        offer(table, client, (1, 2))
    taken = [table.take()[0].message.client for _ in range(6)]
    assert taken == [ALICE, BOB, CAROL] * 2


def test_a_full_table_takes_another_clients_request_in_place_of_the_newest_of_the_largest():
    table = pending(pending_requests_max=4)
    offer(table, ALICE, (1, 2, 3, 4))
    assert offer(table, BOB, (1,)) == [None]
    assert len(table) == 4
    assert (ALICE, 1, 4) not in table
    assert (ALICE, 1, 3) in table


def test_a_client_that_holds_as_much_as_any_other_gets_no_more_of_a_full_table():
    table = pending(pending_requests_max=4)
    offer(table, ALICE, (1, 2))
    offer(table, BOB, (1, 2))
    assert offer(table, ALICE, (3,)) == [Rejection.OVERLOADED]
    assert numbers(table.requests(), BOB) == [1, 2]


def test_what_is_proposed_is_never_given_up():
    table = pending(pending_requests_max=4, batch_requests_max=8)
    offer(table, ALICE, (1, 2, 3, 4))
    table.take()
    assert offer(table, BOB, (1,)) == [Rejection.OVERLOADED]
    assert len(table) == 4


def test_what_a_backup_waits_for_is_taken_in_that_backups_turn():
    """Else a client could tell the primary of it last, the backups of it first, and depose a correct primary."""
    table = pending(batch_requests_max=2)
    offer(table, ALICE, range(1, 50))
    assert offer(table, ALICE, (49,), origin=3) == [Rejection.DUPLICATE]
    assert numbers(table.take(), ALICE) == [1, 49]
    assert numbers(table.take(), ALICE) == [2, 3]


def test_a_request_in_several_turns_is_taken_once():
    table = pending(batch_requests_max=8)
    offer(table, ALICE, (1, 2))
    for backup in (1, 2, 3):
        offer(table, ALICE, (1, 2), origin=backup)
    assert sorted(numbers(table.take(), ALICE)) == [1, 2]
    assert not table.has_unproposed


def test_in_a_new_view_everything_is_taken_again():
    table = pending(batch_requests_max=8)
    offer(table, ALICE, (1, 2))
    offer(table, BOB, (1,))
    table.take()
    table.enter_view(now_ns=0)
    assert len(table.take()) == 3


def test_what_did_not_fit_into_a_batchs_results_leads_the_next():
    table = pending(batch_requests_max=2)
    offer(table, ALICE, (1, 2))
    first = table.take()
    offer(table, BOB, (1,))
    table.put_back(first, now_ns=0)
    assert numbers(table.take(), ALICE)[0] == 1


def test_nothing_is_left_behind_by_what_was_executed():
    table = pending()
    offer(table, ALICE, range(1, 20))
    offer(table, ALICE, range(1, 20), origin=2)
    for number in range(1, 20):
        table.remove((ALICE, 1, number), now_ns=0)
    assert len(table) == 0
    assert not table.has_unproposed
    assert table._turns.length(ALICE) == table._turns.length(2) == 0


def test_what_only_proposals_of_earlier_views_held_stays_within_the_limit():
    """A primary of one view in n must not fill the table anew each time."""
    table = pending(pending_requests_max=8)
    offer(table, ALICE, (1, 2))
    for view in range(10):
        table.add_proposed([request(BOB, 10 * view + number) for number in range(1, 11)], now_ns=0)
        assert len(table) <= 8 + 10
        table.enter_view(now_ns=0)
        assert len(table) == 8
    assert numbers(table.requests(), ALICE) == [1, 2]


def test_what_does_not_fit_into_results_is_given_up_when_only_a_proposal_holds_it_and_the_table_is_full():
    table = pending(pending_requests_max=2)
    proposed = [request(BOB, number) for number in range(1, 5)]
    table.add_proposed(proposed, now_ns=0)
    table.put_back(proposed, now_ns=0)
    assert len(table) == 2


def test_what_is_put_back_is_in_no_other_turn_any_more():
    """A batch that catch-up brought holds requests that stood unproposed here, in their backups' turns as well."""
    table = pending(batch_requests_max=1)
    offer(table, ALICE, (1, 2))
    offer(table, ALICE, (1,), origin=2)
    table.put_back([request(ALICE, 1)], now_ns=0)
    assert numbers(table.take(), ALICE) == [1]
    table.remove((ALICE, 1, 1), now_ns=0)
    assert numbers(table.take(), ALICE) == [2]


def test_who_holds_most_bytes_gives_way_when_bytes_are_short():
    """Else a few clients with large requests have those with many small ones pushed out."""
    size = len(request(ALICE, 1).payload)
    table = pending(pending_bytes_max=60 * size)
    offer(table, ALICE, range(1, 21))
    table.add(large_request(BOB, 1, 19 * size), origin=BOB, now_ns=0)
    table.add(large_request(BOB, 2, 19 * size), origin=BOB, now_ns=0)
    assert offer(table, CAROL, range(1, 6)) == [None] * 5
    assert len(numbers(table.requests(), ALICE)) == 20
    assert numbers(table.requests(), BOB) == [1]


def test_what_a_backup_waits_for_too_is_not_given_up_for_what_that_backup_brought():
    """Else a backup that brought most has another client's request dropped by saying that it waits for it."""
    table = pending(pending_requests_max=8)
    offer(table, CAROL, range(1, 8), origin=2)
    offer(table, ALICE, (1,))
    assert offer(table, ALICE, (1,), origin=2) == [Rejection.DUPLICATE]
    assert offer(table, BOB, (1,)) == [None]
    assert (ALICE, 1, 1) in table
    assert (CAROL, 1, 7) not in table
