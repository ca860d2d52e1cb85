"""The catalogue of Byzantine behaviours, by name: `parse("equivocate_split+delay:ms=50")`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import (
    GENESIS,
    Authenticated,
    Batch,
    Checkpoint,
    Commit,
    PeerMessage,
    Prepare,
    PrePrepare,
    Proposal,
    ReplicaId,
    Reply,
    Status,
    View,
    ViewChange,
)
from bft.testing.behaviour import MS, Behaviour, BehaviourContext, Composed, own_statement, tell
from bft.testing.collusion import CertifyTogether, ForgetTogether, ForkTogether, Launder
from bft.testing.forgeries import BodySwap, ForgedCertificates, LyingViewChange, OmittingNewView, wrong
from crypto.merkle import all_proofs

__all__ = ["MS", "NAMES", "SWARM", "Behaviour", "BehaviourContext", "parse"]


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
        return tell(effect, lambda target: other if target in victims else proposal, context)


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


class LyingCheckpoints(Behaviour):
    """CHECKPOINTs with a wrong root."""

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply):
            return (effect,)
        checkpoint = own_statement(effect.message, context, Checkpoint)
        if checkpoint is None:
            return (effect,)
        lie = context.signer.sign(replace(checkpoint, root=wrong(checkpoint.root)))
        return tell(effect, lambda _: lie, context)


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


class Stale(Behaviour):
    """Claims for ever to stand where it stood first, and leaves retransmission to others."""

    def __init__(self) -> None:
        self._first: Status | None = None

    def alter(self, effect: Send | Broadcast | SendReply, context: BehaviourContext) -> Iterable[Effect]:
        if isinstance(effect, SendReply) or not isinstance(effect.message, Status):
            return (effect,)
        self._first = self._first or effect.message
        return (replace(effect, message=self._first),)


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
    "body_swap": BodySwap,
    "omitting_new_view": OmittingNewView,
    "lying_view_change": LyingViewChange,
    "forged_certificates": ForgedCertificates,
    "stale": Stale,
    "fork_together": ForkTogether,
    "forget_together": ForgetTogether,
    "certify_together": CertifyTogether,
    "launder": Launder,
}

NAMES = tuple(_REGISTRY)

# what the simulator's seeds choose from: each alone, and combinations that make others matter
SWARM = (
    *NAMES,
    "equivocate_one+drop_to",
    "equivocate_split+omitting_new_view",
    "silent_after+view_change_spam",
    "view_change_spam:jump=1000",
    "lying_view_change+omitting_new_view",
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
