"""A round of events, absorbed one by one and settled once: what production does with all that waits in its inbox."""

from bft.core.effects import Broadcast, Effect, Executed
from bft.core.events import ClientRequest, Received
from bft.core.messages import Batch, PeerMessage, Proposal
from tests.paper.stage import Stage
from tests.unit.core.test_review_timers import operation, order, registration


def proposals(happened: list[Effect]) -> list[Batch]:
    messages = [effect.message for effect in happened if isinstance(effect, Broadcast)]
    return [message.batch for message in messages if isinstance(message, Proposal)]


def test_requests_of_one_round_become_one_batch() -> None:
    primary = Stage(n=4, me=0)
    for number in (1, 2, 3):
        assert proposals(primary.replica.absorb(ClientRequest(operation(number)), primary.now)) == []
    (batch,) = proposals(primary.replica.settle(primary.now))
    assert [request.message.number for request in batch.requests] == [1, 2, 3]


def test_a_round_executes_before_a_checkpoint_in_it_moves_the_window() -> None:
    """Else the batch would be dropped with the window below the checkpoint, and have to be fetched from a peer."""
    backup = Stage(n=4, me=1, checkpoint_interval=4)
    twin = Stage(n=4, me=1, checkpoint_interval=4)
    requests = [registration(), operation(1), operation(2), operation(3)]
    for seq, request in enumerate(requests, 1):
        order(twin, seq, request)
    for seq, request in enumerate(requests[:3], 1):
        order(backup, seq, request)
    batch = Batch(backup.now.wall_ns, (requests[3],))
    votes: list[tuple[int, PeerMessage]] = [(0, backup.proposal(view=0, seq=4, batch=batch))]
    votes += [(r, backup.prepare(r, view=0, seq=4, digest=batch.digest)) for r in (2, 3)]
    votes += [(r, backup.commit(r, view=0, seq=4, digest=batch.digest)) for r in (0, 2, 3)]
    votes += [(r, backup.checkpoint(r, seq=4, root=twin.replica.state_root)) for r in (0, 2, 3)]
    happened = [e for sender, vote in votes for e in backup.replica.absorb(Received(sender, vote), backup.now)]
    happened += backup.replica.settle(backup.now)
    assert [effect.seq for effect in happened if isinstance(effect, Executed)] == [4]
    assert (backup.replica.last_executed, backup.replica.stable.seq) == (4, 4)
