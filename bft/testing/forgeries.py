"""Behaviours that claim what is not so: bodies, certificates and new views that prove nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import (
    NULL_DIGEST,
    Authenticated,
    Batch,
    Batches,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Digest,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Seq,
    StableCheckpoint,
    Status,
    View,
    ViewChange,
)
from bft.testing.behaviour import Behaviour, BehaviourContext, own_statement, tell
from crypto.digests import tagged


def wrong(digest: Digest) -> Digest:
    """A digest of nothing, the same each time."""
    return tagged(b"bft-testing-wrong", digest)


class BodySwap(Behaviour):
    """As primary: one header for all, but half of the others get a body that is not its own."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply) or not isinstance(effect.message, Proposal):
            return (effect,)
        proposal = effect.message
        if proposal.header.message.replica != context.id or not proposal.batch.requests:
            return (effect,)
        other = Proposal(proposal.header, Batch(proposal.batch.time_ns + 1, proposal.batch.requests))
        half = context.second_half
        return tell(effect, lambda target: other if target in half else proposal, context)


class OmittingNewView(Behaviour):
    """As primary of a new view: denies what it had prepared itself, and re-proposes null in place of everything."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        new_view: NewView | None = own_statement(effect.message, context, NewView)
        if new_view is None:
            return (effect,)
        sign = context.signer.sign
        changes = tuple(
            sign(replace(change.message, prepared=())) if change.message.replica == context.id else change
            for change in new_view.view_changes
        )
        headers = tuple(sign(replace(header.message, digest=NULL_DIGEST)) for header in new_view.pre_prepares)
        forged = sign(replace(new_view, view_changes=changes, pre_prepares=headers))
        return tell(effect, lambda _: forged, context)


class LyingViewChange(Behaviour):
    """Its VIEW-CHANGEs claim to have prepared, in the view before, what only it itself ever voted for."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        view_change: ViewChange | None = own_statement(effect.message, context, ViewChange)
        if view_change is None:
            return (effect,)
        forged = tuple(_forged_prepared(c, view_change.view - 1, context) for c in view_change.prepared)
        lie = context.signer.sign(replace(view_change, prepared=forged))
        return tell(effect, lambda _: lie, context)


class ForgedCertificates(Behaviour):
    """Fills certificates with its own vote, again and again: committed batches and stable checkpoints that are none.

    It claims to be ahead, so that it is asked.
    """

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        message = effect.message
        if isinstance(message, Status):
            ahead = replace(message, last_executed=message.last_executed + 1)
            stable = _forged_stable(message.stable, context)
            return (replace(effect, message=ahead), replace(effect, message=StableCheckpoint(stable)))
        if isinstance(message, Batches):
            after = message.batches[-1].seq if message.batches else self._last_seq
            forged = _forged_commit(after + 1, context)
            return (replace(effect, message=Batches((*message.batches, forged))),)
        commit: Commit | None = own_statement(message, context, Commit)
        if commit is not None:
            self._last_seq = commit.seq
        return (effect,)

    _last_seq: Seq = 0


def _forged_prepared(certificate: PreparedCertificate, view: View, context: BehaviourContext) -> PreparedCertificate:
    """A header of its own making if it is the primary of `view`, else the true one; in either case one voter."""
    header = certificate.header
    if view % context.n == context.id:
        header = context.signer.sign(PrePrepare(view, certificate.seq, wrong(certificate.digest), context.id))
    vote: Authenticated[Prepare] = context.signer.sign(Prepare(header, context.id))
    return PreparedCertificate(header, (vote,) * len(certificate.prepares))


def _forged_stable(above: Seq, context: BehaviourContext) -> CheckpointCertificate:
    # 16 is a multiple of every checkpoint interval that the simulator uses
    vote = context.signer.sign(Checkpoint((above // 16 + 1) * 16, wrong(NULL_DIGEST), context.id))
    return CheckpointCertificate((vote,) * context.n)


def _forged_commit(seq: Seq, context: BehaviourContext) -> CertifiedBatch:
    batch = Batch(1, ())
    vote = context.signer.sign(Commit(0, seq, batch.digest, context.id))
    return CertifiedBatch(batch, (vote,) * context.n)
