"""Byzantine behaviours: transforms of what a replica sends, between its core and the network.

A behaviour holds no more than the faulty replica itself would: its own signer handle, what its own core wanted to send,
and a clock.  It knows nothing of simulator or node; either hands it the effects of each step and carries out what comes
back, and calls again with nothing at `wake_ns` at the latest.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import (
    GENESIS,
    NULL_DIGEST,
    Authenticated,
    Batch,
    Checkpoint,
    Commit,
    NewView,
    PeerMessage,
    Prepare,
    PrePrepare,
    Proposal,
    ReplicaId,
    Reply,
    SignedMessage,
    Status,
    View,
    ViewChange,
)
from bft.core.ports import Signer
from crypto.digests import tagged
from crypto.merkle import all_proofs

MS = 1_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class BehaviourContext:
    """What the faulty replica has at hand."""

    id: ReplicaId
    n: int
    signer: Signer  # its own handle, no other's
    random: random.Random
    now_ns: int  # its monotonic clock

    @property
    def others(self) -> list[ReplicaId]:
        return [replica for replica in range(self.n) if replica != self.id]

    @property
    def second_half(self) -> list[ReplicaId]:
        """Half of the others, rounded down: the primary and the first half are a quorum or nearly so."""
        others = self.others
        return others[(len(others) + 1) // 2 :]


class Behaviour:
    """Sends everything as a correct replica would; subclasses do worse."""

    wake_ns: int | None = None  # on the context's clock: call `transform` again by then

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        """What the replica does instead of `effects`."""
        out: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Send | Broadcast | SendReply):
                out.extend(self.alter(effect, context))
            else:
                out.append(effect)
        return out

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        """What leaves in place of one send."""
        return (effect,)


class Composed(Behaviour):
    """One behaviour after the other: each sees what the one before it lets out."""

    def __init__(self, parts: list[Behaviour]) -> None:
        self._parts = parts

    @property
    def wake_ns(self) -> int | None:  # type: ignore[override]  # computed here, a plain field elsewhere
        return min((part.wake_ns for part in self._parts if part.wake_ns is not None), default=None)

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        for part in self._parts:
            effects = part.transform(effects, context)
        return effects


def _own(message: PeerMessage, context: BehaviourContext, kind: type[SignedMessage]) -> Any:
    """The statement if the message is the replica's own of this type, else None."""
    if not isinstance(message, Authenticated) or not isinstance(message.message, kind):
        return None
    statement: Any = message.message
    return statement if statement.replica == context.id else None


def _tell(
    effect: Send | Broadcast, story: Callable[[ReplicaId], PeerMessage], context: BehaviourContext
) -> list[Effect]:
    """Send each receiver of `effect` its own story."""
    targets = [effect.to] if isinstance(effect, Send) else context.others
    return [Send(target, story(target)) for target in targets]


class Equivocate(Behaviour):
    """As primary: some backups get another batch under the same (view, seq), properly signed."""

    def __init__(self, victims: Callable[[BehaviourContext], list[ReplicaId]]) -> None:
        self._victims = victims

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply) or not isinstance(effect.message, Proposal):
            return (effect,)
        proposal = effect.message
        header = proposal.header.message
        if header.replica != context.id or not proposal.batch.requests:
            return (effect,)
        batch = Batch(proposal.batch.time_ns + 1, proposal.batch.requests)
        other = Proposal(context.signer.sign(replace(header, digest=batch.digest)), batch)
        victims = self._victims(context)
        return _tell(effect, lambda target: other if target in victims else proposal, context)


class Silent(Behaviour):
    """Sends nothing, from `after_ns` on (counted from the first step)."""

    def __init__(self, after_ns: int = 0) -> None:
        self._after_ns = after_ns
        self._started_ns: int | None = None

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if self._started_ns is None:
            self._started_ns = context.now_ns
        return () if context.now_ns >= self._started_ns + self._after_ns else (effect,)


class Delay(Behaviour):
    """Sends everything, but later."""

    def __init__(self, delay_ns: int) -> None:
        self._delay_ns = delay_ns
        self._held: deque[tuple[int, Effect]] = deque()

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out: list[Effect] = []
        while self._held and self._held[0][0] <= context.now_ns:
            out.append(self._held.popleft()[1])
        for effect in effects:
            if isinstance(effect, Send | Broadcast | SendReply):
                self._held.append((context.now_ns + self._delay_ns, effect))
            else:
                out.append(effect)
        self.wake_ns = self._held[0][0] if self._held else None
        return out


class DropTo(Behaviour):
    """Never sends to the given number of the others (the last ones)."""

    def __init__(self, targets: int) -> None:
        self._targets = targets

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        reached = context.others[: context.n - 1 - self._targets]
        targets = [effect.to] if isinstance(effect, Send) else context.others
        return [Send(target, effect.message) for target in targets if target in reached]


class WrongVotes(Behaviour):
    """COMMITs for a digest that nobody proposed; to everybody, or to half of the others (then the votes conflict)."""

    def __init__(self, *, split: bool) -> None:
        self._split = split
        self._other_headers: dict[tuple[View, int], Authenticated[PrePrepare]] = {}

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        wrong: PeerMessage
        if commit := _own(effect.message, context, Commit):
            wrong = context.signer.sign(replace(commit, digest=_wrong(commit.digest)))
        elif prepare := _own(effect.message, context, Prepare):
            # the header is another's: only one that was really signed passes, so the vote answers an earlier proposal
            header = self._other_headers.get((prepare.view, prepare.seq - 1), prepare.header)
            self._other_headers = {(prepare.view, prepare.seq): prepare.header}
            wrong = context.signer.sign(Prepare(header, context.id))
        else:
            return (effect,)
        honest = effect.message
        lied_to = context.second_half if self._split else context.others
        return _tell(effect, lambda target: wrong if target in lied_to else honest, context)


class LyingCheckpoints(Behaviour):
    """CHECKPOINTs with a wrong root."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        checkpoint = _own(effect.message, context, Checkpoint)
        if checkpoint is None:
            return (effect,)
        wrong = context.signer.sign(replace(checkpoint, root=_wrong(checkpoint.root)))
        return _tell(effect, lambda _: wrong, context)


class LyingReplies(Behaviour):
    """Answers clients with results that are not those of the execution."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if not isinstance(effect, SendReply) or not isinstance(effect.reply, Reply):
            return (effect,)
        honest = effect.reply.outcome
        outcome = replace(honest, results=tuple(b"\x00lie" for _ in honest.results))
        # signed anew, so that the lie is well-formed: one leaf, hence its own root
        root, paths = all_proofs([outcome.leaf])
        result = context.signer.sign(replace(effect.reply.result.message, root=root))
        return (SendReply(effect.client, Reply(outcome, result, 0, 1, paths[0])),)


class Replay(Behaviour):
    """Sends old messages again, to anybody."""

    def __init__(self, chance: float = 0.3, kept: int = 200) -> None:
        self._chance = chance
        self._old: deque[PeerMessage] = deque(maxlen=kept)

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        self._old.append(effect.message)
        if context.random.random() >= self._chance:
            return (effect,)
        return (effect, Send(context.random.choice(context.others), context.random.choice(self._old)))


class ViewChangeSpam(Behaviour):
    """VIEW-CHANGEs for ever higher views, one each `every_ns`, that prove nothing."""

    def __init__(self, every_ns: int = 100 * MS, jump: int = 1) -> None:
        self._every_ns = every_ns
        self._jump = jump
        self._next_ns = 0
        self._view = 0

    def transform(self, effects: list[Effect], context: BehaviourContext) -> list[Effect]:
        out = list(effects)
        if context.now_ns >= self._next_ns:
            self._next_ns = context.now_ns + self._every_ns
            self._view += self._jump
            out.append(Broadcast(context.signer.sign(ViewChange(self._view, GENESIS, (), context.id))))
        self.wake_ns = self._next_ns
        return out


class OmittingNewView(Behaviour):
    """As primary of a new view: denies what it had prepared itself, and re-proposes null in place of everything."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        new_view: NewView | None = _own(effect.message, context, NewView)
        if new_view is None:
            return (effect,)
        sign = context.signer.sign
        changes = tuple(
            sign(replace(change.message, prepared=())) if change.message.replica == context.id else change
            for change in new_view.view_changes
        )
        headers = tuple(sign(replace(header.message, digest=NULL_DIGEST)) for header in new_view.pre_prepares)
        forged = sign(replace(new_view, view_changes=changes, pre_prepares=headers))
        return _tell(effect, lambda _: forged, context)


class Stale(Behaviour):
    """Claims for ever to stand where it stood first, and leaves retransmission to others."""

    def __init__(self) -> None:
        self._first: Status | None = None

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply) or not isinstance(effect.message, Status):
            return (effect,)
        self._first = self._first or effect.message
        return (replace(effect, message=self._first),)


def _wrong(digest: bytes) -> bytes:
    return tagged(b"bft-testing-wrong", digest)


_REGISTRY: dict[str, Callable[..., Behaviour]] = {
    "equivocate_split": lambda: Equivocate(lambda context: context.second_half),
    "equivocate_one": lambda: Equivocate(lambda context: context.others[-1:]),
    "silent": Silent,
    "silent_after": lambda ms=2000: Silent(after_ns=ms * MS),
    "delay": lambda ms=300: Delay(ms * MS),
    "drop_to": lambda targets=1: DropTo(targets),
    "wrong_digest": lambda: WrongVotes(split=False),
    "equivocate_votes": lambda: WrongVotes(split=True),
    "lying_checkpoints": LyingCheckpoints,
    "lying_replies": LyingReplies,
    "replay": Replay,
    "view_change_spam": lambda ms=100, jump=1: ViewChangeSpam(ms * MS, jump),
    "omitting_new_view": OmittingNewView,
    "stale": Stale,
}

NAMES = tuple(_REGISTRY)

# what the simulator's seeds choose from: each alone, and combinations that make others matter
SWARM = (
    *NAMES,
    "equivocate_one+drop_to",
    "equivocate_split+omitting_new_view",
    "silent_after+view_change_spam",
    "wrong_digest+lying_checkpoints+lying_replies",
    "equivocate_votes+replay",
)


def parse(text: str) -> Behaviour:
    """The behaviour written as `name`, `name:key=integer,...` or several joined by `+`.  Raises ValueError."""
    parts = [_parse_one(part) for part in text.split("+")]
    return parts[0] if len(parts) == 1 else Composed(parts)


def _parse_one(text: str) -> Behaviour:
    name, _, arguments = text.partition(":")
    make = _REGISTRY.get(name)
    if make is None:
        raise ValueError(f"there is no behaviour {name!r}; there are {', '.join(NAMES)}")
    settings: dict[str, int] = {}
    for argument in filter(None, arguments.split(",")):
        key, separator, value = argument.partition("=")
        if not separator or not value.isdecimal():
            raise ValueError(f"{argument!r} is not key=integer")
        settings[key] = int(value)
    try:
        return make(**settings)
    except TypeError as error:
        raise ValueError(f"behaviour {name!r} takes no such settings: {arguments}") from error
