"""What several faulty replicas do together; each colluder runs one of these, the `Conspiracy` is what they share.

With at most f of them nothing may come of it; with f + 1 correct replicas really are led apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send
from bft.core.messages import (
    NULL_DIGEST,
    Authenticated,
    Batch,
    Batches,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    ReplicaId,
    StableCheckpoint,
    StateChunk,
    Status,
    ViewChange,
)
from bft.core.new_view import headers
from bft.core.quorum import Quorums
from bft.testing.behaviours.base import MS, Behaviour, BehaviourContext, own_statement, tell
from bft.testing.behaviours.view_change import wrong
from bft.testing.conspiracy import Conspiracy

_LOOK_EVERY_NS = 10 * MS

Header = Authenticated[PrePrepare]


def _conspiracy(context: BehaviourContext) -> Conspiracy:
    """A colluder without colluders conspires with itself."""
    conspiracy = context.conspiracy or Conspiracy()
    conspiracy.join(context.id, context.signer)
    return conspiracy


def _victims(context: BehaviourContext) -> tuple[list[ReplicaId], list[ReplicaId]]:
    """The others, in two halves."""
    colluders = _conspiracy(context).replicas
    victims = [replica for replica in range(context.n) if replica not in colluders]
    half = (len(victims) + 1) // 2
    return victims[:half], victims[half:]


class ForkTogether(Behaviour):
    """Two batches for each sequence number: every colluder votes for one at each half of the others.

    The colluder that is primary makes up the second batch; all say nothing else about that sequence number.
    """

    keeps_core_ignorant = False

    def __init__(self) -> None:
        self._voted: set[tuple[int, int]] = set()

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = super().transform(effects, context)
        for (view, seq), stories in _conspiracy(context).stories.items():
            if (view, seq) not in self._voted:
                self._voted.add((view, seq))
                for half, story in zip(_victims(context), stories, strict=True):
                    out += [Send(victim, vote) for victim in half for vote in _votes(story.header, context)]
        self.wake_ns = context.now_ns + _LOOK_EVERY_NS
        return out

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message, conspiracy = effect.message, _conspiracy(context)
        if isinstance(message, Proposal) and message.header.message.replica == context.id and message.batch.requests:
            return self._tell_both(message, context)
        vote = own_statement(message, context, Prepare) or own_statement(message, context, Commit)
        # its own core notices what it does: it must not confess, nor leave the view in which it just committed
        confesses = isinstance(message, Evidence) or own_statement(message, context, ViewChange) is not None
        silent = confesses or (vote is not None and (vote.view, vote.seq) in conspiracy.stories)
        return () if silent else (effect,)

    def _tell_both(self, proposal: Proposal, context: BehaviourContext) -> list[Effect]:
        header = proposal.header.message
        batch = Batch(proposal.batch.time_ns + 1, proposal.batch.requests)
        other = Proposal(context.signer.sign(replace(header, digest=batch.digest)), batch)
        _conspiracy(context).tell(proposal, other)
        colluders: list[Effect] = [Send(r, proposal) for r in _conspiracy(context).replicas if r != context.id]
        first, second = _victims(context)
        return [*colluders, *(Send(v, proposal) for v in first), *(Send(v, other) for v in second)]


class ForgetTogether(Behaviour):
    """What they committed with one half of the others they deny, in a later view, to the second half.

    Nothing before that view reaches the second half; their VIEW-CHANGEs show only the last prepared certificate, so
    that the NEW-VIEW puts null in place of everything below it, and they vote for that.
    """

    keeps_core_ignorant = False

    def __init__(self) -> None:
        self._voted: set[int] = set()  # identities of headers; the conspiracy keeps them alive

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = super().transform(effects, context)
        for header in _conspiracy(context).denials:
            if id(header) not in self._voted:
                self._voted.add(id(header))
                out += [Send(victim, vote) for victim in _victims(context)[1] for vote in _votes(header, context)]
        self.wake_ns = context.now_ns + _LOOK_EVERY_NS
        return out

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message = effect.message
        if (view_change := own_statement(message, context, ViewChange)) is not None:
            lie = context.signer.sign(replace(view_change, prepared=view_change.prepared[-1:]))
            return tell(effect, lambda _: lie, context)
        if (new_view := own_statement(message, context, NewView)) is not None:
            return tell(effect, lambda _: self._forged(new_view, context), context)
        targets = [effect.to] if isinstance(effect, Send) else context.others
        kept_from = _victims(context)[1] if _is_of_the_past(message) else []
        return [Send(target, message) for target in targets if target not in kept_from]

    def _forged(self, new_view: NewView, context: BehaviourContext) -> Authenticated[NewView]:
        sign, colluders = context.signer.sign, _conspiracy(context).signers
        changes = tuple(
            colluders[c.message.replica].sign(replace(c.message, prepared=c.message.prepared[-1:]))
            if c.message.replica in colluders
            else c
            for c in new_view.view_changes
        )
        quorums = Quorums.of(context.n)
        pre_prepares = tuple(sign(h) for h in headers(new_view.view, [c.message for c in changes], quorums))
        _conspiracy(context).deny(pre_prepares)
        return sign(replace(new_view, view_changes=changes, pre_prepares=pre_prepares))


class CertifyTogether(Behaviour):
    """Certificates out of all the colluders' signatures, and of nobody else's, another one for each half.

    Prepared certificates in VIEW-CHANGEs, stable checkpoints, committed batches; f signatures must never be enough.
    """

    _last_seq = 0

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        message = effect.message
        second_half = _victims(context)[1]
        if (view_change := own_statement(message, context, ViewChange)) is not None:
            lies = [
                context.signer.sign(replace(view_change, prepared=self._prepared(view_change, context, spin=spin)))
                for spin in (0, 1)
            ]
            return tell(effect, lambda target: lies[target in second_half], context)
        if isinstance(message, Status):
            stable = [StableCheckpoint(self._stable(message.stable, context, spin=spin)) for spin in (0, 1)]
            return (effect, *tell(effect, lambda target: stable[target in second_half], context))
        if isinstance(message, Batches):
            after = message.batches[-1].seq if message.batches else self._last_seq
            forged = [*message.batches, self._committed(after + 1, context)]
            return (replace(effect, message=Batches(tuple(forged))),)
        if (commit := own_statement(message, context, Commit)) is not None:
            self._last_seq = commit.seq
        return (effect,)

    @staticmethod
    def _prepared(view_change: ViewChange, context: BehaviourContext, *, spin: int) -> tuple[PreparedCertificate, ...]:
        """Of the highest view below whose primary colludes, for the same sequence numbers, with other digests."""
        signers = _conspiracy(context).signers
        view = next((v for v in range(view_change.view - 1, -1, -1) if v % context.n in signers), None)
        if view is None:
            return view_change.prepared
        forged = []
        for honest in view_change.prepared:
            digest = wrong(honest.digest + bytes(spin))
            header = signers[view % context.n].sign(PrePrepare(view, honest.seq, digest, view % context.n))
            votes = [s.sign(Prepare(header, r)) for r, s in sorted(signers.items()) if r != view % context.n]
            padded = (votes * context.n)[: len(honest.prepares)] if votes else []
            forged.append(PreparedCertificate(header, tuple(padded)))
        return tuple(forged)

    @staticmethod
    def _stable(above: int, context: BehaviourContext, *, spin: int) -> CheckpointCertificate:
        # 16 is a multiple of every checkpoint interval that the simulator uses
        seq, root = (above // 16 + 1) * 16, wrong(NULL_DIGEST + bytes(spin))
        votes = [s.sign(Checkpoint(seq, root, r)) for r, s in sorted(_conspiracy(context).signers.items())]
        return CheckpointCertificate(tuple((votes * context.n)[: context.n]))

    @staticmethod
    def _committed(seq: int, context: BehaviourContext) -> CertifiedBatch:
        batch = Batch(1, ())
        votes = [s.sign(Commit(0, seq, batch.digest, r)) for r, s in sorted(_conspiracy(context).signers.items())]
        return CertifiedBatch(batch, tuple((votes * context.n)[: context.n]))


class Launder(Behaviour):
    """As primary: puts a colluding client's requests, which nobody signed, into its batches; as backup: relays them."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        forged = _conspiracy(context).forged
        if not forged:
            return (effect,)
        message = effect.message
        if isinstance(message, Status):
            return (effect, Broadcast(forged[-1]))
        if not isinstance(message, Proposal) or message.header.message.replica != context.id:
            return (effect,)
        batch = Batch(message.batch.time_ns, (*message.batch.requests, forged[-1]))
        header = context.signer.sign(replace(message.header.message, digest=batch.digest))
        return (replace(effect, message=Proposal(header, batch)),)


def _votes(header: Header, context: BehaviourContext) -> list[Authenticated[Prepare] | Authenticated[Commit]]:
    sign, told = context.signer.sign, header.message
    votes: list[Authenticated[Prepare] | Authenticated[Commit]] = []
    if told.replica != context.id:
        votes.append(sign(Prepare(header, context.id)))
    return [*votes, sign(Commit(told.view, told.seq, told.digest, context.id))]


def _is_of_the_past(message: object) -> bool:
    """What would show the second half that something was committed without it."""
    if isinstance(message, Authenticated):
        said = message.message
        return isinstance(said, Checkpoint | Prepare | Commit)
    return isinstance(message, Proposal | Batches | StableCheckpoint | StateChunk | Evidence)
