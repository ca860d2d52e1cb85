"""What a faulty replica does while views change: NEW-VIEWs that do not follow, VIEW-CHANGEs that prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send
from bft.core.messages import (
    GENESIS,
    NULL_DIGEST,
    Authenticated,
    Checkpoint,
    CheckpointCertificate,
    Digest,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Seq,
    View,
    ViewChange,
)
from bft.core.new_view import reproposals
from bft.testing.behaviours.base import MS, Behaviour, BehaviourContext, own_statement, receivers
from crypto.digests import tagged

VIEW_MAX: View = 2**64 - 1


def wrong(digest: Digest) -> Digest:
    """A digest of nothing, the same each time."""
    return tagged(b"bft-testing-wrong", digest)


class AlterNewView(Behaviour):
    """As primary of a new view: sends everybody another NEW-VIEW than the one that follows from the VIEW-CHANGEs."""

    def __init__(self, other: Callable[[NewView, BehaviourContext], NewView]) -> None:
        self._other = other

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        new_view: NewView | None = own_statement(effect.message, context, NewView)
        if new_view is None:
            return (effect,)
        forged = context.signer.sign(self._other(new_view, context))
        return [Send(target, forged) for target in receivers(effect, context)]


class SplitNewView(Behaviour):
    """As primary of a new view: two valid NEW-VIEWs, one for each half; in one it denies what it had prepared."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        new_view: NewView | None = own_statement(effect.message, context, NewView)
        if new_view is None:
            return (effect,)
        changes = _with_own(new_view, lambda own: replace(own, prepared=()), context)
        other = context.signer.sign(_following(new_view.view, changes, context))
        half = context.second_half
        return [Send(t, other if t in half else effect.message) for t in receivers(effect, context)]


class WithholdNewView(Behaviour):
    """As primary of a new view: never says so."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        return () if own_statement(effect.message, context, NewView) else (effect,)


class LyingViewChange(Behaviour):
    """Its VIEW-CHANGEs claim to have prepared, in the view before, what only it itself ever voted for."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        view_change: ViewChange | None = own_statement(effect.message, context, ViewChange)
        if view_change is None:
            return (effect,)
        lie = context.signer.sign(_forged_claims(view_change, context))
        return [Send(target, lie) for target in receivers(effect, context)]


class ViewChangeSpam(Behaviour):
    """VIEW-CHANGEs for ever higher views, one each `every_ns`, that prove nothing."""

    def __init__(self, every_ns: int = 100 * MS, jump: int = 1, first: View = 0) -> None:
        self._every_ns = every_ns
        self._jump = jump
        self._next_ns = 0
        self._view = first

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = list(effects)
        if context.now_ns >= self._next_ns:
            self._next_ns = context.now_ns + self._every_ns
            self._view = min(self._view + self._jump, VIEW_MAX)
            out.append(Broadcast(context.signer.sign(ViewChange(self._view, GENESIS, (), context.id))))
        self.wake_ns = self._next_ns
        return out


class HugeCertificates(Behaviour):
    """A VIEW-CHANGE, each `every_ns`, whose certificates repeat the sender's own votes ever so often."""

    def __init__(self, every_ns: int, votes: int) -> None:
        self._every_ns = every_ns
        self._votes = votes
        self._next_ns = 0

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = list(effects)
        if context.now_ns >= self._next_ns:
            self._next_ns = context.now_ns + self._every_ns
            vote = context.signer.sign(Checkpoint(1 << 20, wrong(NULL_DIGEST), context.id))
            stable = CheckpointCertificate((vote,) * self._votes)
            out.append(Broadcast(context.signer.sign(ViewChange(context.view + 1, stable, (), context.id))))
        self.wake_ns = self._next_ns
        return out


# --- NEW-VIEWs that do not follow


def _with_own(
    new_view: NewView, change: Callable[[ViewChange], ViewChange], context: BehaviourContext
) -> tuple[Authenticated[ViewChange], ...]:
    """The NEW-VIEW's VIEW-CHANGEs, with another one of our own among them."""
    return tuple(
        context.signer.sign(change(vote.message)) if vote.message.replica == context.id else vote
        for vote in new_view.view_changes
    )


def _following(view: View, changes: tuple[Authenticated[ViewChange], ...], context: BehaviourContext) -> NewView:
    """The NEW-VIEW that does follow from these VIEW-CHANGEs."""
    chosen = reproposals([vote.message for vote in changes])
    return NewView(view, changes, _headers(view, chosen, context), context.id)


def _headers(
    view: View, chosen: Iterable[tuple[Seq, Digest]], context: BehaviourContext
) -> tuple[Authenticated[PrePrepare], ...]:
    return tuple(context.signer.sign(PrePrepare(view, seq, digest, context.id)) for seq, digest in chosen)


def _proposed(new_view: NewView) -> list[tuple[Seq, Digest]]:
    return [(header.message.seq, header.message.digest) for header in new_view.pre_prepares]


def denying(new_view: NewView, context: BehaviourContext) -> NewView:
    """Denies what it had prepared itself, and re-proposes null in place of everything."""
    changes = _with_own(new_view, lambda own: replace(own, prepared=()), context)
    nulls = [(seq, NULL_DIGEST) for seq, _ in _proposed(new_view)]
    return replace(new_view, view_changes=changes, pre_prepares=_headers(new_view.view, nulls, context))


def nulling(new_view: NewView, context: BehaviourContext) -> NewView:
    """Null in place of the last prepared request, one null more when there is none."""
    chosen = _proposed(new_view)
    chosen = [*chosen[:-1], (chosen[-1][0] if chosen else 1, NULL_DIGEST)]
    return replace(new_view, pre_prepares=_headers(new_view.view, chosen, context))


def omitting(new_view: NewView, context: BehaviourContext) -> NewView:
    """Without the last prepared request, or with a header too many when there is none."""
    chosen = _proposed(new_view)
    chosen = chosen[:-1] if chosen else [(1, wrong(NULL_DIGEST))]
    return replace(new_view, pre_prepares=_headers(new_view.view, chosen, context))


def forging(new_view: NewView, context: BehaviourContext) -> NewView:
    """Its own VIEW-CHANGE in it proves what was never prepared, and the headers follow from that."""
    changes = _with_own(new_view, lambda own: _forged_claims(own, context), context)
    return _following(new_view.view, changes, context)


def repeating(new_view: NewView, context: BehaviourContext) -> NewView:
    """Its own VIEW-CHANGE fills the quorum."""
    own = [vote for vote in new_view.view_changes if vote.message.replica == context.id][:1]
    changes = tuple((own or list(new_view.view_changes[:1])) * len(new_view.view_changes))
    return _following(new_view.view, changes, context)


def starting_late(new_view: NewView, context: BehaviourContext) -> NewView:
    """A wrong min-s: one header is left out at the beginning, and one more follows at the end."""
    chosen = _proposed(new_view)
    last = chosen[-1][0] if chosen else 1
    return replace(new_view, pre_prepares=_headers(new_view.view, [*chosen[1:], (last + 1, NULL_DIGEST)], context))


def starting_early(new_view: NewView, context: BehaviourContext) -> NewView:
    """A stale checkpoint: nulls from the very beginning, as if none had been stable, before what was prepared."""
    chosen = _proposed(new_view)
    first = chosen[0][0] if chosen else context.stable + 1
    nulls = [(seq, NULL_DIGEST) for seq in range(max(1, first - context.parameters.window), first)]
    nulls = nulls or [(first, NULL_DIGEST)]
    changes = _with_own(new_view, lambda own: replace(own, stable=GENESIS), context)
    return NewView(new_view.view, changes, _headers(new_view.view, [*nulls, *chosen], context), context.id)


def _forged_claims(own: ViewChange, context: BehaviourContext) -> ViewChange:
    return replace(own, prepared=tuple(_forged_prepared(c, own.view - 1, context) for c in own.prepared))


def _forged_prepared(certificate: PreparedCertificate, view: View, context: BehaviourContext) -> PreparedCertificate:
    """A header of its own making if it is the primary of `view`, else the true one; in either case one voter."""
    header = certificate.header
    if view % context.n == context.id:
        header = context.signer.sign(PrePrepare(view, certificate.seq, wrong(certificate.digest), context.id))
    vote: Authenticated[Prepare] = context.signer.sign(Prepare(header, context.id))
    return PreparedCertificate(header, (vote,) * len(certificate.prepares))
