"""Checkpoint votes, the stable certificate, and when the log may be truncated (OSDI'99 §4.3)."""

from __future__ import annotations

from collections.abc import Iterable

from bft.core import effects
from bft.core.context import Context
from bft.core.effects import Outbox, Rejection
from bft.core.evidence import evidence_of
from bft.core.messages import (
    GENESIS,
    Authenticated,
    Checkpoint,
    CheckpointCertificate,
    Digest,
    Evidence,
    ReplicaId,
    Seq,
)


class Checkpoints:
    """Collects CHECKPOINTs into certificates; knows the highest stable one, whether or not we executed that far."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._votes: dict[ReplicaId, dict[Seq, Authenticated[Checkpoint]]] = {}  # see _slots_max
        self._roots: dict[Seq, Digest] = {}  # our own state's, at and above the stable checkpoint
        self._saved: set[Seq] = set()  # snapshots that are durable, above `_truncated`
        self._certified: set[Seq] = set()  # checkpoints whose certificate went to the log, above `_truncated`
        self._truncated: Seq = 0
        self._withdrawn: set[Seq] = set()  # our votes that may be of a wrong state: not repeated
        self._forgotten: Seq = 0  # up to here we may have cast votes that we do not hold any more: none is cast again
        self.stable: CheckpointCertificate = GENESIS  # the highest proven

    @property
    def _slots_max(self) -> int:
        """Votes kept for each sender: one for each checkpoint of a window, and one more for a sender far ahead."""
        return self._context.parameters.window // self._context.parameters.checkpoint_interval + 1

    def take(self, seq: Seq, root: Digest, out: Outbox) -> None:
        """Our state after ``seq`` has this root: vote for it, unless it is behind the stable checkpoint.

        Nor if we voted for another root: the state was wrong then or is now, and two votes are evidence against us.
        """
        if seq < self.stable.seq:
            return
        self._roots[seq] = root
        out.note(effects.SaveSnapshot(seq, root))
        said = self._votes.get(self._context.id, {}).get(seq)
        if said is not None and said.message.root != root:
            self._withdrawn.add(seq)
        elif self._may_vote(seq) and not self._context.voice.mute:
            self._vote(seq, root, out)

    def speak(self, out: Outbox) -> None:
        """Mute no more: vote for our states above the stable checkpoint."""
        for seq, root in sorted(self._roots.items()):
            if self._may_vote(seq) and seq not in self._votes.get(self._context.id, {}):
                self._vote(seq, root, out)

    def _may_vote(self, seq: Seq) -> bool:
        return seq > max(self.stable.seq, self._forgotten)

    def highest_of(self, replica: ReplicaId) -> Seq:
        """The highest checkpoint that we hold this replica's vote for; 0 if none."""
        return max(self._votes.get(replica, {}), default=0)

    def _vote(self, seq: Seq, root: Digest, out: Outbox) -> None:
        self._withdrawn.discard(seq)
        vote = self._context.sign(Checkpoint(seq, root, self._context.id))
        self._keep(vote)
        out.persist(effects.CheckpointTaken(vote))
        out.broadcast(vote)

    def diverged(self) -> tuple[Digest, Digest] | None:
        """(ours, certified) if our state at the stable checkpoint is not what a quorum computed."""
        ours = self._roots.get(self.stable.seq)
        return None if ours is None or ours == self.stable.root else (ours, self.stable.root)

    def differs(self, checkpoint: Checkpoint) -> bool:
        """Another replica computed another state than we, or than a quorum: a lie, or two histories."""
        stable = self.stable.root if checkpoint.seq == self.stable.seq else checkpoint.root
        return checkpoint.root != self._roots.get(checkpoint.seq, checkpoint.root) or checkpoint.root != stable

    def distrust(self) -> None:
        """Our state is wrong: say nothing more of what it was."""
        self._roots = {}
        self._withdrawn.update(self._votes.get(self._context.id, {}))

    def on_checkpoint(self, vote: Authenticated[Checkpoint]) -> Evidence | Rejection | None:
        """A replica's CHECKPOINT; None: counted."""
        checkpoint = vote.message
        if checkpoint.seq <= self.stable.seq:
            return Rejection.STALE
        if checkpoint.seq % self._context.parameters.checkpoint_interval:
            return Rejection.OUTSIDE_WATERMARKS
        if (seen := self._votes.get(checkpoint.replica, {}).get(checkpoint.seq)) is not None:
            return evidence_of(seen, vote) or Rejection.DUPLICATE
        self._keep(vote)
        return None

    def newly_stable(self, seq: Seq) -> CheckpointCertificate | None:
        """The certificate for ``seq`` if its votes just became a quorum."""
        if seq <= self.stable.seq:
            return None
        by_root: dict[Digest, list[Authenticated[Checkpoint]]] = {}
        for _, votes in sorted(self._votes.items()):
            if (vote := votes.get(seq)) is not None:
                by_root.setdefault(vote.message.root, []).append(vote)
        quorum = self._context.quorums.quorum
        for votes_for_root in by_root.values():
            if len(votes_for_root) >= quorum:
                return CheckpointCertificate(tuple(votes_for_root[:quorum]))
        return None

    def adopt(self, certificate: CheckpointCertificate, out: Outbox) -> bool:
        """A proven certificate: keep it if it is higher than what we have."""
        if certificate.seq <= self.stable.seq:
            return False
        self.stable = certificate
        self._certified.add(certificate.seq)
        for votes in self._votes.values():
            for seq in [seq for seq in votes if seq <= certificate.seq]:
                del votes[seq]
        self._roots = {seq: root for seq, root in self._roots.items() if seq >= certificate.seq}
        self._withdrawn = {seq for seq in self._withdrawn if seq > certificate.seq}
        out.persist(effects.Stable(certificate))
        out.note(effects.BecameStable(certificate.seq, certificate.root))
        return True

    def own_unstable(self) -> list[Authenticated[Checkpoint]]:
        """Our votes above the stable checkpoint, to send them again."""
        own = self._votes.get(self._context.id, {})
        return [v for seq, v in sorted(own.items()) if seq > self.stable.seq and seq not in self._withdrawn]

    def restore(self, stable: CheckpointCertificate, own: Iterable[Authenticated[Checkpoint]] = ()) -> None:
        """Recovery: the certificate of the snapshot, or a later one, and our votes since."""
        self.stable = stable
        for vote in own:
            if vote.message.seq > stable.seq:
                self._keep(vote)
                self._roots[vote.message.seq] = vote.message.root

    def saved(self, seq: Seq) -> None:
        """The snapshot of checkpoint ``seq`` is durable."""
        self._saved.add(seq)

    def truncatable(self) -> Seq | None:
        """A checkpoint newly covered by certificate *and* durable snapshot: only then may the log on disk be truncated.

        Both of the same checkpoint: recovery accepts no snapshot without its own certificate.
        """
        covered = max(self._saved & self._certified, default=0)
        if covered <= self._truncated:
            return None
        self._truncated = covered
        self._saved = {seq for seq in self._saved if seq > covered}
        self._certified = {seq for seq in self._certified if seq > covered}
        return covered

    def _keep(self, vote: Authenticated[Checkpoint]) -> None:
        votes = self._votes.setdefault(vote.message.replica, {})
        votes[vote.message.seq] = vote
        while len(votes) > self._slots_max:
            # A correct sender's votes lie in one window, so only its oldest go; a liar pushes out only its own.
            oldest = min(votes)
            del votes[oldest]
            if vote.message.replica == self._context.id:  # caught up far beyond the stable checkpoint that we know
                self._forgotten = max(self._forgotten, oldest)
