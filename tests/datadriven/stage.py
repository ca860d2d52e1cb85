"""What a script drives: one real replica core, and handles to sign as anybody else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bft.core import effects
from bft.core.events import ClientRequest, Event, Instant, Received, SnapshotSaved, Start, Tick
from bft.core.messages import (
    GENESIS,
    NULL_BATCH,
    Authenticated,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Digest,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    QueryStable,
    ReplyStable,
    Request,
    RequestKind,
    Seq,
    SessionId,
    Status,
    ViewChange,
)
from bft.core.new_view import headers
from bft.core.parameters import MS, Parameters
from bft.core.quorum import Quorums
from bft.core.replica import Replica
from bft.statemachine.kv import KeyValue, encode_put
from bft.statemachine.replicated import ReplicatedState
from bft.testing.symbolic import ClientSigner, Registry, SymbolicAdmission, SymbolicSigner, symbolic_certificate
from tests.datadriven.words import Words

_WALL_NS = 1_800_000_000_000_000_000


@dataclass
class Arguments:
    """`key=value` words of a command; whatever nobody asked for is an error of the script."""

    values: dict[str, str]
    used: set[str] = field(default_factory=set)

    def text(self, key: str, default: str | None = None) -> str:
        self.used.add(key)
        if key in self.values:
            return self.values[key]
        if default is None:
            raise ValueError(f"{key}= is missing")
        return default

    def number(self, key: str, default: int | None = None) -> int:
        return int(self.text(key, None if default is None else str(default)))

    def numbers(self, key: str) -> list[int]:
        return [int(item) for item in self.items(key)]

    def items(self, key: str) -> list[str]:
        return [item for item in self.text(key, "").split(",") if item]


class Stage:
    """Runs commands; each gives the effects, in words."""

    def __init__(self) -> None:
        self.now = Instant(0, _WALL_NS)
        self.words = Words()
        self._records: list[effects.Record] = []
        self._view_changes: dict[int, dict[int, Authenticated[ViewChange]]] = {}
        self._requests: dict[str, Authenticated[Request]] = {}
        self._batches: dict[str, Batch] = {"null": NULL_BATCH}
        self._roots: dict[Seq, Digest] = {}
        self._sessions: dict[str, SessionId] = {}

    def run(self, line: str) -> list[str]:
        """Carry out one command; the lines that it prints."""
        name, *rest = line.split()
        flags = [word for word in rest if "=" not in word]
        arguments = Arguments(dict(word.split("=", 1) for word in rest if "=" in word))
        command = getattr(self, "do_" + name.replace("-", "_"), None)
        if command is None:
            raise ValueError(f"there is no command {name!r}")
        printed: list[str] = command(arguments, *flags)
        if unknown := set(arguments.values) - arguments.used:
            raise ValueError(f"{name} takes no {', '.join(sorted(unknown))}")
        return printed

    # --- the replica

    def do_replica(self, a: Arguments) -> list[str]:
        interval = a.number("checkpoint-interval", 4)
        self._parameters = Parameters(
            n=a.number("n", 4),
            checkpoint_interval=interval,
            window=a.number("window", 2 * interval),
            pipeline_depth=a.number("pipeline", min(8, interval)),
            session_window=a.number("session-window", 4),
            request_timeout_ns=1000 * MS,
            view_change_timeout_ns=1000 * MS,
            courtesy_wait_ns=a.number("courtesy-wait-ms", 30_000) * MS,
        )
        self._quorums = Quorums.of(self._parameters.n)
        self._registry = Registry(self._parameters.n)
        self._signers = [SymbolicSigner(self._registry, replica) for replica in range(self._parameters.n)]
        self._me = a.number("id")
        self._records.clear()
        self._replica = self._new_replica()
        return self._step(Start())

    def do_restart(self, a: Arguments) -> list[str]:
        """A new process with the records that were persisted, and no snapshot; `lost=1`: without them.

        With `nonce=` it asks its peers what it said before.
        """
        if lost := bool(a.number("lost", 0)):
            self._records.clear()
        self._replica = self._new_replica()
        self._replica.recover(self._records, GENESIS)
        nonce = a.number("nonce", 0)
        return self._step(Start(nonce, lost) if nonce else Start())

    def _new_replica(self) -> Replica:
        return Replica(
            id=self._me,
            parameters=self._parameters,
            signer=self._signers[self._me],
            admission=SymbolicAdmission(),
            application=ReplicatedState(KeyValue()),
        )

    def do_state(self, a: Arguments) -> list[str]:
        r = self._replica
        phase = "active" if r.active else "changing"
        sizes = " ".join(f"{name}={size}" for name, size in r.sizes.items())
        return [f"view={r.view} {phase} executed={r.last_executed} stable={r.stable.seq} {sizes}"]

    def do_tick(self, a: Arguments, by: str) -> list[str]:
        """Let time pass; every timer that comes due on the way fires."""
        printed: list[str] = []
        end = self.now.monotonic_ns + int(by.removeprefix("+").removesuffix("ms")) * MS
        while (due := self._replica.next_deadline_ns) is not None and due <= end:
            self._advance_to(max(due, self.now.monotonic_ns))
            printed += self._step(Tick())
        self._advance_to(end)
        return printed

    def _advance_to(self, monotonic_ns: int) -> None:
        passed = monotonic_ns - self.now.monotonic_ns
        self.now = Instant(monotonic_ns, self.now.wall_ns + passed)

    def _step(self, event: Event) -> list[str]:
        done = self._replica.step(event, self.now)
        for effect in done:
            if isinstance(effect, effects.Persist):
                self._records.append(effect.record)
            elif isinstance(effect, effects.SaveSnapshot):
                self._roots[effect.seq] = effect.root
            elif isinstance(effect, effects.Broadcast) and isinstance(effect.message, Authenticated):
                self._remember_view_change(effect.message)
            self._learn_session(effect)
            if isinstance(effect, effects.Broadcast) and isinstance(effect.message, Proposal):
                batch = effect.message.batch
                self._batches.setdefault(self.words.name_own(batch), batch)
        return [self.words.effect(effect) for effect in done]

    def _receive(self, sender: int, message: PeerMessage) -> list[str]:
        return self._step(Received(sender, message))

    def _remember_view_change(self, message: Authenticated[Any]) -> None:
        if isinstance(message.message, ViewChange):
            self._view_changes.setdefault(message.message.view, {})[message.message.replica] = message

    # --- clients

    def do_register(self, a: Arguments) -> list[str]:
        name = a.text("client")
        key = self.words.client(name)
        request = Request(key, 0, a.number("nonce", 1), 0, RequestKind.REGISTER, (symbolic_certificate(key),))
        return self._from_client(a, name + "0", request)

    def do_request(self, a: Arguments) -> list[str]:
        return self._from_client(a, *self._request(a.text("client"), a.number("number"), a))

    def _request(self, name: str, number: int, a: Arguments) -> tuple[str, Request]:
        key = self.words.client(name)
        session = a.number("session", self._sessions.get(name, 0))
        put = encode_put(a.text("key", "k").encode(), a.text("value", f"{name}{number}").encode())
        operations = (put,) * a.number("operations", 1)
        return f"{name}{number}", Request(
            key, session, number, a.number("acked", 0), RequestKind.APPLICATION, operations
        )

    def _from_client(self, a: Arguments, name: str, request: Request) -> list[str]:
        signed = ClientSigner(self._registry, request.client).sign(request)
        self._requests[name] = signed
        self.words.requests[signed.digest] = name
        match a.text("via", "client"):
            case "client":
                return self._step(ClientRequest(signed))
            case "nobody":
                return []
            case replica:
                return self._receive(int(replica), signed)

    def _learn_session(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.SendReply) and hasattr(effect.reply, "outcome"):
            outcome = effect.reply.outcome
            if outcome.session == 0 and outcome.results:
                self._sessions[self.words.client_name(outcome.client)] = int.from_bytes(outcome.results[0], "big")

    def do_batch(self, a: Arguments) -> list[str]:
        """Name a batch: `requests=a1,a2`, proposed `late=` milliseconds after now."""
        requests = tuple(self._requests[name] for name in a.items("requests"))
        self._batches[a.text("name")] = Batch(self.now.wall_ns + a.number("late", 0) * MS, requests)
        self.words.batches[self._batches[a.text("name")].digest] = a.text("name")
        return []

    def _batch(self, a: Arguments) -> Batch:
        return self._batch_named(a.text("batch"))

    def _batch_named(self, name: str) -> Batch:
        """One that nobody described holds one request of a client of its own, who never registered."""
        if name not in self._batches:
            key = self.words.client(f"client-of-{name}")
            request = Request(key, 1, 1, 0, RequestKind.APPLICATION, (name.encode(),))
            batch = Batch(self.now.wall_ns, (ClientSigner(self._registry, key).sign(request),))
            self._batches[name] = batch
            self.words.batches[batch.digest] = name
        return self._batches[name]

    def do_evidence_batch(self, a: Arguments) -> list[str]:
        """A batch named `name` that carries two headers of the primary of `view` at `seq`, for `batches=x,y`."""
        first, second = (self._header(a.number("view"), a.number("seq"), name) for name in a.items("batches"))
        batch = Batch(self.now.wall_ns, (), (Evidence(first, second),))
        self._batches[a.text("name")] = batch
        self.words.batches[batch.digest] = a.text("name")
        return []

    # --- the three phases

    def _header(self, view: int, seq: Seq, name: str) -> Authenticated[PrePrepare]:
        primary = self._quorums.primary(view)
        return self._signers[primary].sign(PrePrepare(view, seq, self._batch_named(name).digest, primary))

    def do_pre_prepare(self, a: Arguments) -> list[str]:
        header = self._header(a.number("view"), a.number("seq"), a.text("batch"))
        body = self._batch_named(a.text("body", a.text("batch")))
        return self._receive(a.number("from"), Proposal(header, body))

    def do_prepare(self, a: Arguments) -> list[str]:
        header = self._header(a.number("view"), a.number("seq"), a.text("batch"))
        signer = a.number("signer", a.number("from"))
        return self._receive(a.number("from"), self._signers[signer].sign(Prepare(header, signer)))

    def do_commit(self, a: Arguments) -> list[str]:
        signer = a.number("signer", a.number("from"))
        return self._receive(a.number("from"), self._commit(a.number("view"), a.number("seq"), a.text("batch"), signer))

    def _commit(self, view: int, seq: Seq, name: str, signer: int) -> Authenticated[Commit]:
        return self._signers[signer].sign(Commit(view, seq, self._batch_named(name).digest, signer))

    def do_order(self, a: Arguments) -> list[str]:
        """All of the others take the batch through the three phases; prints what is not the phases themselves."""
        view, seq, name = a.number("view", 0), a.number("seq"), a.text("batch")
        header = self._header(view, seq, name)
        primary = self._quorums.primary(view)
        others = [replica for replica in range(self._parameters.n) if replica != self._me]
        printed = self._receive(primary, Proposal(header, self._batch_named(name))) if primary != self._me else []
        for replica in others:
            if replica != primary:
                printed += self._receive(replica, self._signers[replica].sign(Prepare(header, replica)))
        for replica in others:
            printed += self._receive(replica, self._commit(view, seq, name, replica))
        noise = ("persist accepted", "persist prepared", "persist committed", "broadcast prepare", "broadcast commit")
        return [line for line in printed if not line.startswith((*noise, "reject"))]

    # --- checkpoints

    def do_checkpoint(self, a: Arguments) -> list[str]:
        return self._receive(a.number("from"), self._checkpoint(a.number("from"), a.number("seq"), a.text("root", "")))

    def _checkpoint(self, replica: int, seq: Seq, root: str) -> Authenticated[Checkpoint]:
        """`root` is a made-up one by name; by default the replica's own."""
        digest = root.encode().ljust(32, b"-") if root else self._roots[seq]
        return self._signers[replica].sign(Checkpoint(seq, digest, replica))

    def _stable(self, a: Arguments) -> CheckpointCertificate:
        seq = a.number("stable", 0)
        voters = a.numbers("stable-by") or range(self._quorums.quorum)
        if not seq:
            return GENESIS
        return CheckpointCertificate(tuple(self._checkpoint(v, seq, a.text("root", "")) for v in voters))

    def do_snapshot_saved(self, a: Arguments) -> list[str]:
        return self._step(SnapshotSaved(a.number("seq")))

    # --- view changes

    def do_view_change(self, a: Arguments) -> list[str]:
        """`prepared=1@0:x` is batch x prepared at 1 in view 0; `by=` names its voters."""
        signer = a.number("signer", a.number("from"))
        certificates = tuple(self._prepared(item, a) for item in a.items("prepared"))
        message = ViewChange(a.number("view"), self._stable(a), certificates, signer)
        signed = self._signers[signer].sign(message)
        self._remember_view_change(signed)
        return [] if "unsent" in a.items("but") else self._receive(a.number("from"), signed)

    def _prepared(self, item: str, a: Arguments) -> PreparedCertificate:
        where, name = item.split(":")
        seq, view = (int(part) for part in where.split("@"))
        header = self._header(view, seq, name)
        backups = [r for r in range(self._parameters.n) if r != self._quorums.primary(view)]
        voters = a.numbers("by") or backups[: self._quorums.quorum - 1]
        return PreparedCertificate(header, tuple(self._signers[v].sign(Prepare(header, v)) for v in voters))

    def do_new_view(self, a: Arguments) -> list[str]:
        """From the VIEW-CHANGEs of `view-changes=`; `pre-prepares=1:x` replaces what follows from them."""
        view = a.number("view")
        primary = self._quorums.primary(view)
        known = self._view_changes.get(view, {})
        chosen = tuple(known[replica] for replica in a.numbers("view-changes"))
        derived = headers(view, [vote.message for vote in chosen], self._quorums)
        if "pre-prepares" in a.values:
            pairs = [item.split(":") for item in a.items("pre-prepares")]
            derived = [PrePrepare(view, int(s), self._batch_named(b).digest, primary) for s, b in pairs]
        sign = self._signers[primary].sign
        message = NewView(view, chosen, tuple(sign(header) for header in derived), primary)
        return self._receive(a.number("from", primary), sign(message))

    # --- what was said before a restart

    def do_query_stable(self, a: Arguments) -> list[str]:
        return self._receive(
            a.number("from"), QueryStable(a.number("nonce"), a.number("until", 0), a.number("above", 0))
        )

    def do_reply_stable(self, a: Arguments) -> list[str]:
        """`commits=1@0:x` returns our COMMIT for batch x at 1 in view 0."""
        votes = []
        for item in a.items("commits"):
            where, name = item.split(":")
            seq, view = (int(part) for part in where.split("@"))
            votes.append(self._commit(view, seq, name, self._me))
        reply = ReplyStable(a.number("nonce"), a.number("view", 0), self._stable(a), tuple(votes), ())
        return self._receive(a.number("from"), reply)

    # --- the rest

    def do_bodies(self, a: Arguments) -> list[str]:
        return self._receive(a.number("from"), Bodies(tuple(self._batch_named(name) for name in a.items("batches"))))

    def do_status(self, a: Arguments) -> list[str]:
        executed = a.number("executed", 0)
        status = Status(
            a.number("view", 0),
            a.text("phase", "active") == "active",
            executed,
            a.number("stable", 0),
            a.number("oldest", executed + 1),
            tuple(a.numbers("accused")),
        )
        return self._receive(a.number("from"), status)

    def do_evidence(self, a: Arguments) -> list[str]:
        """Two headers of the primary of `view` at `seq`."""
        first, second = (self._header(a.number("view"), a.number("seq"), name) for name in a.items("batches"))
        return self._receive(a.number("from"), Evidence(first, second))

    def do_batches(self, a: Arguments) -> list[str]:
        """Certified batches `1:x,2:y`, committed in `view` by `by`."""
        voters = a.numbers("by") or list(range(self._quorums.quorum))
        view = a.number("view", 0)
        certified = []
        for item in a.items("certified"):
            seq, name = item.split(":")
            commits = tuple(self._commit(view, int(seq), name, voter) for voter in voters)
            certified.append(CertifiedBatch(self._batch_named(name), commits))
        return self._receive(a.number("from"), Batches(tuple(certified)))
