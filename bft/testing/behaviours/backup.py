"""What a faulty replica votes: for nothing, for two things at once, too early."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send
from bft.core.messages import Authenticated, Checkpoint, Commit, PeerMessage, Prepare, PrePrepare, Seq, View
from bft.testing.behaviours.base import Behaviour, BehaviourContext, own_statement, receivers, tell
from bft.testing.behaviours.view_change import wrong


class WrongVotes(Behaviour):
    """COMMITs for a digest that nobody proposed; to everybody, or to half of the others (then the votes conflict)."""

    def __init__(self, *, split: bool) -> None:
        self._split = split
        self._other_headers: dict[tuple[View, Seq], Authenticated[PrePrepare]] = {}

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        lie: PeerMessage
        if commit := own_statement(effect.message, context, Commit):
            lie = context.signer.sign(replace(commit, digest=wrong(commit.digest)))
        elif prepare := own_statement(effect.message, context, Prepare):
            # the header is another's: only one that was really signed passes, so the vote answers an earlier proposal
            header = self._other_headers.get((prepare.view, prepare.seq - 1), prepare.header)
            self._other_headers = {(prepare.view, prepare.seq): prepare.header}
            lie = context.signer.sign(Prepare(header, context.id))
        else:
            return (effect,)
        honest = effect.message
        lied_to = context.second_half if self._split else context.others
        return tell(effect, lambda target: lie if target in lied_to else honest, context)


class EarlyCommits(Behaviour):
    """COMMITs with its PREPARE, though nothing is prepared."""

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        prepare: Prepare | None = own_statement(effect.message, context, Prepare)
        if prepare is None:
            return (effect,)
        commit = context.signer.sign(Commit(prepare.view, prepare.seq, prepare.digest, context.id))
        return (effect, *(Send(target, commit) for target in receivers(effect, context)))


class LyingCheckpoints(Behaviour):
    """CHECKPOINTs with a wrong root; to everybody, or to half of the others (then they conflict)."""

    def __init__(self, *, split: bool) -> None:
        self._split = split

    def alter(self, effect: Send | Broadcast, context: BehaviourContext) -> Iterable[Effect]:
        checkpoint: Checkpoint | None = own_statement(effect.message, context, Checkpoint)
        if checkpoint is None:
            return (effect,)
        honest = effect.message
        lie = context.signer.sign(replace(checkpoint, root=wrong(checkpoint.root)))
        lied_to = context.second_half if self._split else context.others
        return tell(effect, lambda target: lie if target in lied_to else honest, context)
