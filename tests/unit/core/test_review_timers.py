"""What makes a backup suspect the primary, and what must not (DESIGN §5)."""

from typing import Any

import msgpack
import pytest

from bft.core.effects import ViewChangeStarted
from bft.core.events import ClientRequest, Instant, Tick
from bft.core.messages import Authenticated, Batch, Request, RequestKind
from bft.core.parameters import MS, SECOND
from bft.testing.symbolic import symbolic_certificate
from tests.paper.stage import CLIENT, Stage, sent

SESSION = 1 << 16


def registration(nonce: int = 1, session: int = 0) -> Authenticated[Request]:
    request = Request(CLIENT, session, nonce, 0, RequestKind.REGISTER, (symbolic_certificate(CLIENT),))
    return Authenticated(request, msgpack.packb((session, nonce, 0, "register")), bytes(64))


def operation(number: int, *, acked: int = 0, session: int = SESSION) -> Authenticated[Request]:
    request = Request(CLIENT, session, number, acked, RequestKind.APPLICATION, (b"operation",))
    return Authenticated(request, msgpack.packb((session, number, acked, "operation")), bytes(64))


def order(stage: Stage, seq: int, *requests: Authenticated[Request], view: int = 0) -> list[Any]:
    """Everybody agrees on a batch of these."""
    batch = Batch(stage.now.wall_ns, requests)
    primary = view % 4
    happened = stage.receive(primary, stage.proposal(view=view, seq=seq, batch=batch))
    for replica in {0, 2, 3} - {primary}:
        happened += stage.receive(replica, stage.prepare(replica, view=view, seq=seq, digest=batch.digest))
    for replica in (0, 2, 3):
        happened += stage.receive(replica, stage.commit(replica, view=view, seq=seq, digest=batch.digest))
    return happened


@pytest.fixture
def backup() -> Stage:
    """Replica 1, a backup, with the client's session open."""
    stage = Stage(n=4, me=1, checkpoint_interval=64)
    order(stage, 1, registration())
    return stage


def left(happened: list[Any]) -> list[int]:
    return [e.view for e in happened if isinstance(e, ViewChangeStarted)]


def test_a_number_that_the_client_gave_up_is_owed_no_more(backup: Stage) -> None:
    """Its `acked` in a later request skips it: the primary refuses the relayed request as already executed."""
    backup.step(ClientRequest(operation(1)))
    order(backup, 2, operation(2, acked=1))
    assert left(backup.wait(3 * SECOND)) == []


def test_a_second_registration_with_the_same_nonce_is_owed_no_more(backup: Stage) -> None:
    """A registration is named by client and nonce, whatever it says in `session`: the primary refuses the second."""
    backup.step(ClientRequest(registration(2, session=7)))
    order(backup, 2, registration(2, session=8))
    assert left(backup.wait(3 * SECOND)) == []


def test_a_request_heard_during_a_view_change_reaches_the_new_primary_also_under_load(backup: Stage) -> None:
    """Else a client that sends to the backups alone makes all of them suspect every new primary."""
    registered = Batch(backup.now.wall_ns, (registration(),))
    prepared = (backup.prepared(view=0, seq=1, digest=registered.digest),)
    changes = [backup.view_change(r, view=2, prepared=prepared) for r in (0, 2, 3)]
    for change in changes[:2]:
        backup.receive(change.message.replica, change)
    request = operation(1)
    backup.step(ClientRequest(request))
    happened = backup.receive(2, backup.new_view(2, changes))
    for seq in range(2, 20):  # others' requests keep being executed
        happened += order(backup, seq, operation(100 + seq), view=2)
        happened += backup.wait(100 * MS)
    assert request.message in sent(happened, Request)


def test_a_relayed_request_that_was_lost_is_relayed_again_also_under_load(backup: Stage) -> None:
    """The primary may refuse it as overloaded for a moment, or the link drop it; no reason to suspect it."""
    request = operation(1)
    backup.step(ClientRequest(request))
    happened: list[Any] = []
    for seq in range(2, 19):
        happened += order(backup, seq, operation(100 + seq))
        happened += backup.wait(100 * MS)
    assert request.message in sent(happened, Request)


def test_after_a_pause_of_its_own_a_replica_does_not_suspect_the_primary(backup: Stage) -> None:
    """SIGSTOP, a suspended machine: it was we who did not listen."""
    backup.step(ClientRequest(operation(1)))
    backup.now = Instant(backup.now.monotonic_ns + 60 * SECOND, backup.now.wall_ns + 60 * SECOND)
    assert left(backup.step(Tick())) == []


def test_a_backlog_that_is_being_worked_off_deposes_no_primary(backup: Stage) -> None:
    """OSDI'99 §4.4: the timer restarts when another request becomes the one waited for."""
    requests = [operation(number) for number in range(1, 5)]
    for request in requests:
        backup.step(ClientRequest(request))
    happened: list[Any] = []
    for seq, request in enumerate(requests, start=2):
        happened += backup.wait(1500 * MS)
        happened += order(backup, seq, request)
    assert left(happened) == []


def test_a_request_that_the_primary_leaves_out_is_found_though_others_are_executed(backup: Stage) -> None:
    """A censored request becomes the oldest, and then has one time-out."""
    backup.step(ClientRequest(operation(1)))
    happened: list[Any] = []
    for seq in range(2, 12):
        happened += backup.wait(300 * MS)
        if backup.replica.active:
            happened += order(backup, seq, operation(100 + seq))
    assert left(happened) == [1]


def test_a_replica_that_is_always_late_still_suspects_a_silent_primary_in_the_end(backup: Stage) -> None:
    """A flood may keep every round long; if each counted as a pause, a faulty primary would be safe for ever."""
    backup.step(ClientRequest(operation(1)))
    happened: list[Any] = []
    for _ in range(60):
        backup.now = Instant(backup.now.monotonic_ns + 900 * MS, backup.now.wall_ns + 900 * MS)
        happened += backup.step(Tick())
    assert left(happened) != []


def test_a_primary_that_works_through_a_backlog_in_order_is_not_suspected(backup: Stage) -> None:
    """Clients alone can make a backlog of more than a time-out; the oldest request is executed in time each time."""
    for number in range(1, 5):
        backup.step(ClientRequest(operation(number)))
    happened: list[Any] = []
    for number in range(1, 5):
        happened += backup.wait(1500 * MS)
        happened += order(backup, number + 1, operation(number))
    assert left(happened) == []


def test_a_request_that_the_primary_censors_is_not_forgotten_while_others_execute(backup: Stage) -> None:
    backup.step(ClientRequest(operation(1)))
    happened: list[Any] = []
    for number in range(2, 12):
        backup.step(ClientRequest(operation(number)))
        happened += backup.wait(500 * MS)
        if backup.replica.active:
            happened += order(backup, number, operation(number))
    assert left(happened) != []


def test_a_primary_that_works_off_a_backlog_one_request_a_time_out_is_suspected_in_the_end(backup: Stage) -> None:
    """Else it and a flooding client hold back another client's request for hours."""
    requests = [operation(number) for number in range(1, 60)]
    for request in requests:
        backup.step(ClientRequest(request))
    happened: list[Any] = []
    for seq, request in enumerate(requests, start=2):
        happened += backup.wait(1900 * MS)
        if not backup.replica.active:
            break
        happened += order(backup, seq, request)
    assert left(happened)[:1] == [1]


def test_a_replica_that_lags_gives_up_the_requests_of_proposals_that_a_stable_checkpoint_passed() -> None:
    """Found by seed 3011: while it fetched the state, it voted in window after window, and executed none."""
    laggard = Stage(n=4, me=1, checkpoint_interval=4)
    for seq in range(2, 41):
        batch = Batch(laggard.now.wall_ns, (operation(seq),))
        laggard.receive(0, laggard.proposal(view=0, seq=seq, batch=batch))
        if seq % 4 == 0:
            for replica in (0, 2, 3):
                laggard.receive(replica, laggard.checkpoint(replica, seq=seq, root=bytes(32)))
    assert laggard.replica.stable.seq == 40
    assert laggard.replica.last_executed == 0
    assert laggard.replica.sizes["pending"] == 0
