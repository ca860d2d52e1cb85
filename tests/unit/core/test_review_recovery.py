"""What a crash must not make a replica forget."""

from bft.core import effects
from bft.core.messages import Checkpoint, CheckpointCertificate, Prepare, ViewChange
from tests.paper.stage import Stage, sent


def test_headers_of_a_new_view_beyond_our_old_window_bind_after_a_crash() -> None:
    """The NEW-VIEW moved our window by its checkpoint; without a body only the NEW-VIEW itself remembers them."""
    backup = Stage(n=4, me=1)
    stable = CheckpointCertificate(tuple(backup.checkpoint(r, seq=4, root=bytes(32)) for r in (0, 2, 3)))
    prepared = tuple(backup.prepared(view=0, seq=seq, digest=backup.batch(seq).digest) for seq in range(5, 13))
    changes = [backup.signers[r].sign(ViewChange(2, stable, prepared, r)) for r in (0, 2, 3)]
    backup.receive(2, backup.new_view(2, changes))
    assert (backup.replica.view, backup.replica.active) == (2, True)
    backup.restart()
    happened = backup.receive(2, backup.proposal(view=2, seq=12, batch=backup.batch(99)))
    assert not sent(happened, Prepare)


def test_a_checkpoint_passed_in_recovery_gets_its_vote() -> None:
    """A torn tail may hold the COMMITs of the checkpoint's batch and not our CHECKPOINT."""
    backup = Stage(n=4, me=1)
    for seq in range(1, 5):
        backup.commit_batch(seq)
    kept = [e for e in backup.effects if not (isinstance(e, effects.Persist) and _is_vote(e.record))]
    backup.effects = kept
    backup.restart()
    assert backup.replica.last_executed == 4
    backup.effects = []
    backup.wait(10**9)
    assert [c.seq for c in sent(backup.effects, Checkpoint)][:1] == [4]


def _is_vote(record: effects.Record) -> bool:
    return isinstance(record, effects.CheckpointTaken)
