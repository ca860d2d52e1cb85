"""What a faulty replica tells clients."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from bft.core.effects import Effect, SendReply
from bft.core.messages import Reply
from bft.testing.behaviours.base import Behaviour, BehaviourContext
from crypto.digests import tagged
from crypto.merkle import all_proofs

_ANSWERS_MAX = 10_000


class LyingReplies(Behaviour):
    """Answers clients with results that are not those of the execution; all of them, or about half."""

    def __init__(self, *, split: bool) -> None:
        self._split = split

    def alter_reply(self, effect: SendReply, context: BehaviourContext) -> Iterable[Effect]:
        reply = effect.reply
        if not isinstance(reply, Reply) or (self._split and tagged(b"half", effect.client)[0] % 2):
            return (effect,)
        honest = reply.outcome
        outcome = replace(honest, results=tuple(b"\x00lie" for _ in honest.results))
        # signed anew, so that the lie is well-formed: one leaf, hence its own root
        root, paths = all_proofs([outcome.leaf])
        result = context.signer.sign(replace(reply.result.message, root=root))
        return (SendReply(effect.client, Reply(outcome, result, 0, 1, paths[0])),)


class NoReplies(Behaviour):
    """Takes part in everything, and never answers a client."""

    def alter_reply(self, effect: SendReply, context: BehaviourContext) -> Iterable[Effect]:
        return ()


class StaleReads(Behaviour):
    """Answers each query from the oldest state in which it was asked it."""

    def __init__(self) -> None:
        self._first: OrderedDict[bytes, bytes] = OrderedDict()

    def answer(self, operation: bytes, result: bytes) -> bytes:
        while len(self._first) > _ANSWERS_MAX:
            self._first.popitem(last=False)
        return self._first.setdefault(operation, result)


def lying_replies() -> Behaviour:
    """Lies to every client."""
    return LyingReplies(split=False)


def split_replies() -> Behaviour:
    """Lies to about half of the clients."""
    return LyingReplies(split=True)
