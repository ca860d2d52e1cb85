"""What may be truncated: only what a snapshot covers that recovery will accept, one with its own certificate."""

from bft.core import effects
from bft.core.events import SnapshotSaved
from bft.core.messages import Checkpoint, CheckpointCertificate, StableCheckpoint
from tests.paper.stage import Stage, sent


def test_a_snapshot_whose_certificate_we_never_saw_does_not_allow_truncation() -> None:
    """The votes for 4 were lost, 8 became stable by its certificate, and its own snapshot gave way to a later one."""
    backup = Stage(n=4, me=1)
    for seq in range(1, 9):
        backup.commit_batch(seq)
    roots = {c.seq: c.root for c in sent(backup.effects, Checkpoint)}
    happened = backup.step(SnapshotSaved(4))
    votes = tuple(backup.checkpoint(r, seq=8, root=roots[8]) for r in (0, 2, 3))
    happened += backup.receive(0, StableCheckpoint(CheckpointCertificate(votes)))
    assert not [e for e in happened if isinstance(e, effects.TruncateLog)]
    assert effects.TruncateLog(8) in backup.step(SnapshotSaved(8))
