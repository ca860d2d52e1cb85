"""Rebuilds the parts from the records that outlived a crash (DESIGN §1: never contradict what was signed before it)."""

from __future__ import annotations

from collections.abc import Iterable

from bft.core import effects
from bft.core.checkpoints import Checkpoints
from bft.core.context import Context
from bft.core.effects import Record
from bft.core.evidence import EvidenceBook
from bft.core.execution import Execution
from bft.core.messages import Batch, CertifiedBatch, CheckpointCertificate, Digest, Seq
from bft.core.ordering import Ordering
from bft.core.rejoining import Rejoining
from bft.core.view_change import ViewChanges


def executed_at_most(records: Iterable[Record], snapshot: CheckpointCertificate) -> Seq:
    """No later batch than this was executed before the crash by a replica that told anybody of its results.

    What replay reaches may lie below: a checkpoint's state was being fetched, or a batch's body is not in the log.
    """
    seqs = [snapshot.seq]
    for record in records:
        match record:
            case effects.Committed(commits):
                seqs.append(commits[0].message.seq)
            case effects.Fetched(certified):
                seqs.append(certified.seq)
            case effects.Stable(certificate):
                seqs.append(certificate.seq)
            case effects.CheckpointTaken(checkpoint):
                seqs.append(checkpoint.message.seq)
    return max(seqs)


def replay(  # noqa: C901, PLR0912 - one case a record type
    records: Iterable[Record],
    *,
    context: Context,
    snapshot: CheckpointCertificate,
    ordering: Ordering,
    execution: Execution,
    checkpoints: Checkpoints,
    view_changes: ViewChanges,
    guilty: EvidenceBook,
    rejoining: Rejoining,
) -> list[tuple[Seq, Digest]]:
    """Fold the records, in the order they were written, onto the snapshot; the checkpoints passed, with their roots.

    Batches execute again as far as they are contiguous; what is missing is caught up from peers like any gap.
    """
    stable = snapshot
    own_checkpoints = []
    bodies: dict[tuple[Seq, Digest], Batch] = {}
    committed: dict[Seq, CertifiedBatch] = {}
    for record in records:
        match record:
            case effects.Accepted(proposal, _):
                header = proposal.header.message
                bodies[header.seq, header.digest] = proposal.batch
                ordering.restore(record)
            case effects.Prepared():
                ordering.restore(record)
            case effects.Committed(commits):
                vote = commits[0].message
                body = bodies.get((vote.seq, vote.digest))
                if body is not None:  # else it lies below the truncation point, or the log's head was cut there
                    committed[vote.seq] = CertifiedBatch(body, commits)
            case effects.Fetched(certified):
                committed[certified.seq] = certified
            case effects.CheckpointTaken(checkpoint):
                own_checkpoints.append(checkpoint)
            case effects.Stable(certificate):
                if certificate.seq > stable.seq:
                    stable = certificate
                    ordering.advance(certificate.seq, last_executed=certificate.seq)
            case effects.LeftView():
                view_changes.restore(record)
                ordering.leave_view()
            case effects.EnteredView(new_view):
                view_changes.restore(record)
                ordering.leave_view()
                ordering.restore_headers(new_view.message.pre_prepares)
            case effects.Proven(evidence):
                guilty.add(evidence)
            case effects.Asked() | effects.Silenced() | effects.Spoke():
                rejoining.restore(record)
    checkpoints.restore(stable, own_checkpoints)
    passed: list[tuple[Seq, Digest]] = []
    while (following := committed.get(execution.last_executed + 1)) is not None:
        execution.execute(following)
        seq = execution.last_executed
        if seq % context.parameters.checkpoint_interval == 0:
            # Not compared with our own vote: if they differ, the state was wrong then or is now, and certificates tell.
            passed.append((seq, execution.checkpoint()))
    return passed
