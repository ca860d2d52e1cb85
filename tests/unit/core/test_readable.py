"""When a replica may answer a read: its answers never go back, over crashes neither (docs/reads.md)."""

from bft.core import effects
from bft.core.effects import SendReply
from bft.core.events import ClientRequest, Start
from bft.core.messages import CheckpointCertificate, Reply, ReplyStatus, StableCheckpoint
from tests.paper.stage import Stage


def test_a_replica_that_recovered_all_it_executed_may_be_read_from():
    stage = Stage(n=4, me=1)
    stage.commit_batch(1)
    assert stage.replica.readable
    stage.restart()
    assert stage.replica.last_executed == 1
    assert stage.replica.readable


def test_a_replica_that_is_not_as_far_as_it_was_before_the_crash_may_not_be_read_from():
    """The body of what it executed is not in its log, as when it followed as a learner: it recovers less."""
    stage = Stage(n=4, me=1)
    first, second = stage.commit_batch(1), stage.batch(2)
    commits = tuple(stage.commit(replica, seq=2, digest=second.digest) for replica in (0, 2, 3))
    stage.effects.append(effects.Persist(effects.Committed(commits)))
    stage.restart()
    assert (first.digest, stage.replica.last_executed) != (second.digest, 2)
    assert not stage.replica.readable


def test_a_replica_that_was_fetching_a_state_is_read_from_once_it_has_it():
    stage = Stage(n=4, me=1)
    stable = CheckpointCertificate(tuple(stage.checkpoint(r, seq=8, root=bytes(32)) for r in (0, 2, 3)))
    stage.receive(0, StableCheckpoint(stable))
    stage.restart()
    assert stage.replica.last_executed < 8
    assert not stage.replica.readable


def test_a_mute_replica_is_not_read_from():
    stage = Stage(n=4, me=1)
    stage.replica = stage._new_replica()
    stage.step(Start(nonce=7, amnesiac=True))
    assert not stage.replica.readable


def test_a_replica_under_repair_is_not_read_from():
    stage = Stage(n=4, me=1)
    for seq in range(1, 5):
        stage.commit_batch(seq)
    assert stage.replica.readable
    certified = CheckpointCertificate(tuple(stage.checkpoint(r, seq=4, root=bytes(32)) for r in (0, 2, 3)))
    stage.receive(0, StableCheckpoint(certified))
    assert stage.replica.repairing
    assert not stage.replica.readable


def test_a_client_that_asks_for_a_result_that_is_gone_is_told_so():
    """Else it would ask for ever, and its session's window would fill behind it."""
    stage = Stage(n=4, me=1, session_reply_bytes_max=0)
    stage.commit_batch(1)
    happened = stage.step(ClientRequest(stage.request(1)))
    (reply,) = [e.reply for e in happened if isinstance(e, SendReply) and isinstance(e.reply, Reply)]
    assert (reply.outcome.status, reply.outcome.seq) == (ReplyStatus.RESULT_DISCARDED, 0)


def test_a_copy_that_a_peer_relays_late_is_not_answered_so():
    stage = Stage(n=4, me=1, session_reply_bytes_max=0)
    stage.commit_batch(1)
    happened = stage.receive(2, stage.request(1))
    assert not [e for e in happened if isinstance(e, SendReply)]
