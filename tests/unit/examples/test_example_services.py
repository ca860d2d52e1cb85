"""The worked examples of docs/own-services.md do what that page says."""

import random

import pytest
from bank import CENTRAL_BANK, Bank
from counter import Counter
from locks import Guarded, Locks

from bft.testing import check_determinism
from tests.unit.examples.desk import SECOND, Desk


def test_a_counter_adds_what_each_operation_names() -> None:
    desk = Desk(Counter())
    assert [desk.call(b"2"), desk.call(b"40"), desk.call(b"-1")] == [b"2", b"42", b"41"]


def test_an_operation_that_is_no_number_changes_no_counter() -> None:
    desk = Desk(Counter())
    desk.call(b"7")
    assert desk.call(b"seven") == "internal"
    assert desk.call(b"0") == b"7"


@pytest.fixture
def bank() -> Desk:
    desk = Desk(Bank())
    desk.call(b"open a", client="alice")
    desk.call(b"open b", client="bob")
    desk.call(b"deposit a 100", client=CENTRAL_BANK)
    return desk


@pytest.mark.parametrize("seed", range(5))
def test_transfers_conserve_the_total_whatever_is_asked(bank: Desk, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        giver, taker = chance.choice("abx"), chance.choice("abx")
        amount = chance.choice(["1", "30", "99", "100", "-5", "0", "1e3", "x", "9" * 30])
        bank.call(f"transfer {giver} {taker} {amount}".encode(), client=chance.choice(["alice", "bob", "mallory"]))
        assert bank.call(b"total") == b"100"


@pytest.mark.parametrize(
    ("operation", "client", "code"),
    [
        (b"deposit a 1", "alice", "not_yours"),
        (b"transfer a b 1", "bob", "not_yours"),
        (b"transfer a b 101", "alice", "no_cover"),
        (b"transfer a nobody 1", "alice", "no_account"),
        (b"open a", "bob", "exists"),
        (b"transfer a b -1", "alice", "bad_amount"),
        (b"rob b", "alice", "bad_operation"),
    ],
)
def test_a_bank_refuses_what_is_nobodys_right(bank: Desk, operation: bytes, client: str, code: str) -> None:
    assert bank.call(operation, client=client) == code
    assert (bank.call(b"balance a"), bank.call(b"balance b")) == (b"100", b"0")


def test_a_transfer_whose_second_half_fails_leaves_no_first_half(bank: Desk) -> None:
    """The taker is credited before the giver is found to have no cover: the rollback takes it back."""
    assert bank.call(b"transfer a b 101", client="alice") == "no_cover"
    assert bank.call(b"balance b") == b"0"


def test_a_held_lock_is_had_by_nobody_else() -> None:
    desk = Desk(Locks())
    assert desk.call(b"acquire disk 10") == b"1"
    assert desk.call(b"acquire disk 10", client="bob") == "held"


def test_a_lock_expires_by_the_agreed_time_and_its_next_token_is_higher() -> None:
    desk = Desk(Locks())
    first = desk.call(b"acquire disk 10")
    desk.time_ns += 11 * SECOND
    second = desk.call(b"acquire disk 10", client="bob")
    assert isinstance(first, bytes)
    assert isinstance(second, bytes)
    assert int(second) > int(first)


def test_who_lost_a_lock_can_neither_renew_nor_release_it() -> None:
    desk = Desk(Locks())
    token = desk.call(b"acquire disk 10")
    desk.time_ns += 11 * SECOND
    assert isinstance(token, bytes)
    assert desk.call(b"renew disk %s 10" % token) == "lost"
    desk.call(b"acquire disk 10", client="bob")
    assert desk.call(b"release disk %s" % token) == "lost"


def test_a_renewed_lock_is_held_longer_under_the_same_token() -> None:
    desk = Desk(Locks())
    token = desk.call(b"acquire disk 10")
    assert isinstance(token, bytes)
    desk.time_ns += 9 * SECOND
    assert desk.call(b"renew disk %s 10" % token) == token
    desk.time_ns += 9 * SECOND
    assert desk.call(b"holder disk") == token


def test_a_guarded_resource_refuses_a_holder_that_slept_through_its_expiry() -> None:
    desk = Desk(Locks())
    disk = Guarded()
    old = desk.call(b"acquire disk 10")
    desk.time_ns += 11 * SECOND
    new = desk.call(b"acquire disk 10", client="bob")
    assert isinstance(old, bytes)
    assert isinstance(new, bytes)
    disk.write("bob was here", int(new))
    with pytest.raises(PermissionError):
        disk.write("alice woke up", int(old))
    assert disk.content == "bob was here"


@pytest.mark.parametrize(
    ("service", "operations"),
    [
        (Counter, [b"1", b"2", b"three", b"-4"]),
        (Bank, [b"open a", b"open b", b"open c", b"transfer a b 1", b"total", b"balance a"]),
        (Locks, [b"acquire a 5", b"acquire a 5", b"acquire b 1", b"release a 1", b"holder a", b"acquire a 7"]),
    ],
)
def test_every_example_is_deterministic(service: type, operations: list[bytes]) -> None:
    assert len(check_determinism(service, operations)) == 32
