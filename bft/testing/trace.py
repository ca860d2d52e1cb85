"""What happened, as one hash: equal for equal seeds, in every process and under every PYTHONHASHSEED."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from bft.core.effects import Broadcast, Effect, Persist, Send
from bft.core.events import ClientRequest, Event, Received
from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    BatchResult,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    FetchBatches,
    FetchBodies,
    FetchState,
    NewView,
    Prepare,
    PrePrepare,
    Proposal,
    QueryStable,
    ReplyStable,
    Request,
    StableCheckpoint,
    StateChunk,
    Status,
    ViewChange,
)
from bft.testing.scheduler import MS

_HASHED_AT_ONCE = 4096  # tokens


class Trace:
    """A running SHA-256 over events and effects; `show` also gets each as a line."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._hash = hashlib.sha256()
        self._tokens: list[bytes] = []  # not hashed yet
        self._show = show

    def add(self, now_ns: int, replica: int, event: Event, effects: list[Effect]) -> None:
        tokens = self._tokens
        tokens.append(b"%d %d %d" % (now_ns, replica, len(effects)))
        what: Any = event
        kind: type = type(what)
        if kind is Received:
            tokens.append(_message_token(what.message))
        elif kind is ClientRequest:
            tokens.append(what.request.signature)
        else:
            tokens.append(_NAMES[kind])
        for what in effects:
            kind = type(what)
            tokens.append(_NAMES[kind])
            if kind is Persist:
                tokens.append(_NAMES[type(what.record)])
            elif kind is Broadcast or kind is Send:
                tokens.append(_message_token(what.message))
        if len(tokens) > _HASHED_AT_ONCE:
            self._hash_tokens()
        if self._show is not None:
            self._show(f"{now_ns / MS:10.3f}ms replica {replica} <- {describe_event(event)}")
            for effect in effects:
                self._show(f"{'':12} replica {replica} -> {describe(effect)}")

    def note(self, now_ns: int, what: str) -> None:
        """Something that is no event of a replica: a fault, a client's acceptance."""
        self._tokens.append(b"%d %s" % (now_ns, what.encode()))
        if self._show is not None:
            self._show(f"{now_ns / MS:10.3f}ms * {what}")

    def _hash_tokens(self) -> None:
        self._hash.update(b"|".join(self._tokens))
        self._tokens.clear()

    @property
    def digest(self) -> str:
        self._hash_tokens()
        return self._hash.hexdigest()


class _Names(dict[type, bytes]):
    def __missing__(self, kind: type) -> bytes:
        name = self[kind] = kind.__name__.encode()
        return name


_NAMES = _Names()


def _message_token(message: Any) -> bytes:
    if isinstance(message, Authenticated):
        return message.signature
    if isinstance(message, Proposal):
        return message.header.signature
    return _NAMES[type(message)]


def describe_event(event: Event) -> str:
    """One line for people."""
    match event:
        case Received():
            return f"from {event.sender}: {describe(event.message)}"
        case ClientRequest():
            return f"client: {describe(event.request)}"
        case _:
            return describe(event)


def describe(what: Any) -> str:
    """One short line about a message, a record, an effect or an event."""
    if isinstance(what, Authenticated):
        return describe(what.message)
    words = _WORDS.get(type(what))
    if words is not None:
        return words(what)
    if isinstance(what, bytes):
        return _short(what)
    if isinstance(what, tuple):
        return f"[{', '.join(describe(item) for item in what)}]"
    names = getattr(what, "__dataclass_fields__", None)
    if names is None:
        return str(what)
    return f"{type(what).__name__}({', '.join(f'{name}={describe(getattr(what, name))}' for name in names)})"


def _short(digest: bytes) -> str:
    return digest[:4].hex()


def _vote(m: PrePrepare | Prepare | Commit) -> str:
    return f"{type(m).__name__.lower()} replica={m.replica} view={m.view} seq={m.seq} digest={_short(m.digest)}"


def _root(m: Checkpoint | BatchResult) -> str:
    return f"{type(m).__name__.lower()} replica={m.replica} seq={m.seq} root={_short(m.root)}"


def _view_change(m: ViewChange) -> str:
    prepared = ",".join(f"{c.seq}@{c.view}:{_short(c.digest)}" for c in m.prepared)
    return f"view-change replica={m.replica} view={m.view} stable={m.stable.seq} prepared=[{prepared}]"


def _new_view(m: NewView) -> str:
    senders = [v.message.replica for v in m.view_changes]
    headers = ",".join(f"{p.message.seq}:{_short(p.message.digest)}" for p in m.pre_prepares)
    return f"new-view view={m.view} view-changes={senders} pre-prepares=[{headers}]"


_WORDS: dict[type, Callable[[Any], str]] = {
    Request: lambda m: f"request client={_short(m.client)} session={m.session} number={m.number}",
    PrePrepare: _vote,
    Prepare: _vote,
    Commit: _vote,
    Checkpoint: _root,
    BatchResult: _root,
    ViewChange: _view_change,
    NewView: _new_view,
    Proposal: lambda m: f"{describe(m.header)} requests={len(m.batch.requests)}",
    Batch: lambda m: f"batch {_short(m.digest)} requests={len(m.requests)}",
    Evidence: lambda m: f"evidence against={m.accused}: {describe(m.first)} / {describe(m.second)}",
    CheckpointCertificate: lambda m: f"stable seq={m.seq}",
    StableCheckpoint: lambda m: f"stable-checkpoint seq={m.certificate.seq}",
    CertifiedBatch: lambda m: f"certified seq={m.seq} view={m.view}",
    Batches: lambda m: f"batches {[c.seq for c in m.batches]}",
    Bodies: lambda m: f"bodies {[_short(b.digest) for b in m.batches]}",
    FetchBodies: lambda m: f"fetch-bodies {[_short(d) for d in m.digests]}",
    FetchState: lambda m: f"fetch-state seq={m.seq} paths={len(m.paths)}",
    StateChunk: lambda m: f"state-chunk seq={m.seq} nodes={len(m.nodes)}",
    Status: repr,
    FetchBatches: repr,
    QueryStable: repr,
    ReplyStable: lambda m: (
        f"reply-stable view={m.view} stable={m.stable.seq} votes={describe(m.votes)} "
        f"view-changes={describe(m.view_changes)}"
    ),
}
