"""What happened, as one hash: equal for equal seeds, in every process and under every PYTHONHASHSEED."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from bft.core.effects import Effect, Persist
from bft.core.events import ClientRequest, Event, Received
from bft.core.messages import (
    Authenticated,
    Batches,
    BatchResult,
    Bodies,
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
    Request,
    StableCheckpoint,
    StateChunk,
    Status,
    ViewChange,
)
from bft.testing.scheduler import MS


class Trace:
    """A running SHA-256 over events and effects; `show` also gets each as a line."""

    def __init__(self, show: Callable[[str], None] | None = None) -> None:
        self._hash = hashlib.sha256()
        self._show = show

    def add(self, now_ns: int, replica: int, event: Event, effects: list[Effect]) -> None:
        self._hash.update(b"%d %d %s %d" % (now_ns, replica, _event_token(event), len(effects)))
        for effect in effects:
            self._hash.update(_effect_token(effect))
        if self._show is not None:
            self._show(f"{now_ns / MS:10.3f}ms replica {replica} <- {describe_event(event)}")
            for effect in effects:
                self._show(f"{'':12} replica {replica} -> {describe(effect)}")

    def note(self, now_ns: int, what: str) -> None:
        """Something that is no event of a replica: a fault, a client's acceptance."""
        self._hash.update(b"%d %s" % (now_ns, what.encode()))
        if self._show is not None:
            self._show(f"{now_ns / MS:10.3f}ms * {what}")

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _event_token(event: Event) -> bytes:
    if isinstance(event, Received):
        return b"%d" % event.sender + _message_token(event.message)
    if isinstance(event, ClientRequest):
        return event.request.signature
    return type(event).__name__.encode()


def _message_token(message: Any) -> bytes:
    if isinstance(message, Authenticated):
        return message.signature
    if isinstance(message, Proposal):
        return message.header.signature + message.batch.digest
    return type(message).__name__.encode()


def _effect_token(effect: Effect) -> bytes:
    if isinstance(effect, Persist):
        return type(effect.record).__name__.encode()
    message = getattr(effect, "message", None)
    return type(effect).__name__.encode() + (b"" if message is None else _message_token(message))


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
    match what:
        case Authenticated():
            return describe(what.message)
        case bytes():
            return what[:4].hex()
        case Request():
            return f"request client={what.client[:4].hex()} session={what.session} number={what.number}"
        case PrePrepare() | Prepare() | Commit():
            name = type(what).__name__.lower()
            return f"{name} replica={what.replica} view={what.view} seq={what.seq} digest={what.digest[:4].hex()}"
        case Checkpoint() | BatchResult():
            return f"{type(what).__name__.lower()} replica={what.replica} seq={what.seq} root={what.root[:4].hex()}"
        case ViewChange():
            prepared = ",".join(f"{c.seq}@{c.view}:{c.digest[:4].hex()}" for c in what.prepared)
            return f"view-change replica={what.replica} view={what.view} stable={what.stable.seq} prepared=[{prepared}]"
        case NewView():
            senders = [v.message.replica for v in what.view_changes]
            seqs = ",".join(f"{p.message.seq}:{p.message.digest[:4].hex()}" for p in what.pre_prepares)
            return f"new-view view={what.view} view-changes={senders} pre-prepares=[{seqs}]"
        case Proposal():
            return f"{describe(what.header)} requests={len(what.batch.requests)}"
        case Evidence():
            return f"evidence against={what.accused}: {describe(what.first)} / {describe(what.second)}"
        case CheckpointCertificate():
            return f"stable seq={what.seq}"
        case StableCheckpoint():
            return f"stable-checkpoint seq={what.certificate.seq}"
        case Batches():
            return f"batches {[c.seq for c in what.batches]}"
        case Bodies():
            return f"bodies {[b.digest[:4].hex() for b in what.batches]}"
        case FetchBodies():
            return f"fetch-bodies {[d[:4].hex() for d in what.digests]}"
        case FetchState():
            return f"fetch-state seq={what.seq} paths={len(what.paths)}"
        case StateChunk():
            return f"state-chunk seq={what.seq} nodes={len(what.nodes)}"
        case Status() | FetchBatches():
            return repr(what)
    fields = getattr(what, "__dataclass_fields__", None)
    if fields is None:
        return str(what)
    return f"{type(what).__name__}({', '.join(f'{name}={describe(getattr(what, name))}' for name in fields)})"
