"""Effects in the words of the scripts: one line each, with names in place of digests and keys."""

from __future__ import annotations

from typing import Any

from bft.core import effects
from bft.core.messages import (
    NULL_DIGEST,
    Authenticated,
    Batch,
    Batches,
    Bodies,
    Checkpoint,
    ClientKey,
    Commit,
    Digest,
    Evidence,
    FetchBatches,
    FetchBodies,
    FetchState,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    QueryStable,
    Refusal,
    Reply,
    ReplyStable,
    Request,
    StableCheckpoint,
    StateChunk,
    Status,
    ViewChange,
)


class Words:
    """Knows which name stands for which client, request and batch."""

    def __init__(self) -> None:
        self.requests: dict[Digest, str] = {}
        self.batches: dict[Digest, str] = {NULL_DIGEST: "null"}
        self._clients: dict[ClientKey, str] = {}

    def client(self, name: str) -> ClientKey:
        key = name.encode().ljust(32, b".")
        self._clients[key] = name
        return key

    def client_name(self, key: ClientKey) -> str:
        return self._clients[key]

    def name_own(self, batch: Batch) -> str:
        """A batch that the replica proposed itself is called after its requests."""
        names = [self.requests.get(request.digest, "?") for request in batch.requests]
        names += [f"proof-against-{evidence.accused}" for evidence in batch.evidence]
        return self.batches.setdefault(batch.digest, "+".join(names))

    def batch(self, digest: Digest) -> str:
        return self.batches.get(digest, digest[:4].hex())

    # --- effects

    def effect(self, effect: effects.Effect) -> str:
        match effect:
            case effects.Persist():
                return f"persist {self.record(effect.record)}"
            case effects.Broadcast():
                return f"broadcast {self.message(effect.message)}"
            case effects.Send():
                return f"send to={effect.to} {self.message(effect.message)}"
            case effects.SendReply():
                return f"reply {self.reply(effect.reply, effect.client)}"
            case effects.Rejected():
                sender = effect.sender if isinstance(effect.sender, int) else self.client_name(effect.sender)
                return f"reject from={sender} {effect.message_type}: {effect.reason}"
            case _:
                return self._observation(effect)

    def _observation(self, effect: effects.Effect) -> str:  # noqa: C901, PLR0911, PLR0912 - one line a kind of effect
        match effect:
            case effects.SaveSnapshot():
                return f"save snapshot seq={effect.seq}"
            case effects.TruncateLog():
                return f"truncate log seq={effect.seq}"
            case effects.Executed():
                name = self.batch(effect.batch.digest)
                return f"executed seq={effect.seq} view={effect.view} batch={name} operations={effect.operations}"
            case effects.BecameStable():
                return f"stable seq={effect.seq}"
            case effects.ViewChangeStarted():
                return f"view change to={effect.view}: {effect.cause}"
            case effects.ViewEntered():
                return f"entered view={effect.view} primary={effect.primary}"
            case effects.EvidenceFound():
                return f"found {self.message(effect.evidence)}"
            case effects.Convicted():
                return f"convicted {effect.accused} seq={effect.seq}"
            case effects.Diverged():
                return f"diverged seq={effect.seq}"
            case effects.Repaired():
                return f"repaired seq={effect.seq} differences={len(effect.differences)}"
            case effects.CannotRepair():
                return f"cannot repair seq={effect.seq} repaired={effect.repaired}"
            case effects.CatchingUp():
                return f"catching up seq={effect.seq} received={effect.nodes_received} wanted={effect.nodes_wanted}"
            case effects.FellSilent():
                return f"silent until={effect.until} above={effect.above}"
            case effects.Rejoined():
                return "rejoined" if effect.was_silenced else "remembers"
            case _:
                raise ValueError(f"no words for {effect!r}")

    def record(self, record: effects.Record) -> str:  # noqa: C901, PLR0911 - one line a kind of record
        match record:
            case effects.Accepted():
                return f"accepted {self._at(record.proposal.header.message)}"
            case effects.Prepared():
                return f"prepared {self._at(record.certificate)}"
            case effects.Committed():
                return f"committed {self._at(record.commits[0].message)}"
            case effects.Fetched():
                return f"fetched seq={record.certified.seq} batch={self.batch(record.certified.batch.digest)}"
            case effects.CheckpointTaken():
                return f"checkpoint seq={record.checkpoint.message.seq}"
            case effects.Stable():
                return f"stable seq={record.certificate.seq}"
            case effects.LeftView():
                return f"left-view for={record.view_change.message.view}"
            case effects.EnteredView():
                return f"entered-view view={record.new_view.message.view}"
            case effects.Proven():
                return f"proven {record.evidence.accused}"
            case effects.Silenced():
                return f"silenced until={record.until} above={record.above}"
            case effects.Asked():
                return f"asked view={record.view} low={record.low} checkpoint={record.checkpoint}"
            case effects.Spoke():
                return "spoke"

    def reply(self, reply: Reply | Refusal, client: ClientKey) -> str:
        name = self.client_name(client)
        if isinstance(reply, Refusal):
            return f"client={name} number={reply.number} refused: {reply.reason}"
        outcome = reply.outcome
        status = outcome.status.name.lower().replace("_", " ")
        return f"client={name} number={outcome.number} seq={outcome.seq} {status}"

    # --- messages

    def _at(self, m: PrePrepare | Prepare | Commit | PreparedCertificate) -> str:
        return f"view={m.view} seq={m.seq} batch={self.batch(m.digest)}"

    def message(self, message: Any) -> str:
        inner = message.message if isinstance(message, Authenticated) else message
        match inner:
            case Request():
                return f"request {self.requests[message.digest]}"
            case Prepare() | Commit():
                by = "" if inner.replica is None else f" by={inner.replica}"
                return f"{type(inner).__name__.lower()} {self._at(inner)}{by}"
            case Checkpoint():
                return f"checkpoint seq={inner.seq}"
            case ViewChange():
                prepared = ",".join(f"{c.seq}@{c.view}:{self.batch(c.digest)}" for c in inner.prepared)
                return (
                    f"view-change view={inner.view} by={inner.replica} stable={inner.stable.seq} prepared=[{prepared}]"
                )
            case NewView():
                senders = ",".join(str(change.message.replica) for change in inner.view_changes)
                return f"new-view view={inner.view} view-changes={senders} pre-prepares=[{self._headers(inner)}]"
            case Proposal():
                return f"pre-prepare {self._at(inner.header.message)}"
            case Evidence():
                first, second = (type(statement.message).__name__ for statement in (inner.first, inner.second))
                return f"evidence accused={inner.accused}: " + (
                    f"two of {first}" if first == second else f"{first}, {second}"
                )
            case _:
                return self._unsigned(inner)

    def _headers(self, new_view: NewView) -> str:
        return ",".join(f"{p.message.seq}:{self.batch(p.message.digest)}" for p in new_view.pre_prepares)

    def _unsigned(self, message: Any) -> str:  # noqa: PLR0911 - one line a kind of message
        match message:
            case Status():
                phase = "active" if message.active else "changing"
                return f"status view={message.view} {phase} executed={message.last_executed} stable={message.stable}"
            case FetchBatches():
                return f"fetch-batches after={message.after}"
            case Batches():
                return f"batches {','.join(str(c.seq) for c in message.batches) or 'none'}"
            case FetchBodies():
                return f"fetch-bodies {','.join(self.batch(digest) for digest in message.digests)}"
            case Bodies():
                return f"bodies {','.join(self.batch(b.digest) for b in message.batches) or 'none'}"
            case StableCheckpoint():
                return f"stable-checkpoint seq={message.certificate.seq}"
            case FetchState():
                return f"fetch-state seq={message.seq} paths={len(message.paths)}"
            case StateChunk():
                return f"state-chunk seq={message.seq} nodes={len(message.nodes)}"
            case QueryStable():
                return f"query-stable nonce={message.nonce} until={message.until} above={message.above}"
            case ReplyStable():
                said = [self.message(vote) for vote in (*message.votes, *message.view_changes)]
                return f"reply-stable nonce={message.nonce} view={message.view} said=[{', '.join(said)}]"
            case _:
                raise ValueError(f"no words for {message!r}")
