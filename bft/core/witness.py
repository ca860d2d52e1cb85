"""What each replica was seen to sign, whatever became of the message: the first half of a proof (DESIGN §4, Evidence).

The handlers compare a statement only with what they keep for the protocol.  Much is not for them: a vote of a view that
is over, of a slot below the watermarks, a second CHECKPOINT after stability, what stands inside certificates,
VIEW-CHANGEs, NEW-VIEWs and PREPAREs, what is held back.  All of it passes here, and what conflicts with anything
remembered convicts.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from typing import Any

from bft.core.context import Context
from bft.core.effects import Accepted, Committed, EnteredView, Prepared, Record, Stable
from bft.core.evidence import conflict
from bft.core.messages import (
    Authenticated,
    Batches,
    Bodies,
    Checkpoint,
    Commit,
    Evidence,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    ReplicaId,
    StableCheckpoint,
    ViewChange,
)
from bft.core.new_view import valid_view_change

_VIEW_CHANGES_MAX = 2  # of each replica, the last seen; they are large
_NEW_VIEWS_MAX = 4  # entered: their VIEW-CHANGEs are remembered whatever the senders send later

_Seen = OrderedDict[tuple[int, int], Authenticated[Any]]  # by (view, seq), in order of first sight


class _Memory:
    """What one replica said of one kind: what others showed us, and what it said itself, which they cannot push out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # of each
        self._shown: _Seen = OrderedDict()
        self._heard: _Seen = OrderedDict()

    def __len__(self) -> int:
        return len(self._shown) + len(self._heard)

    def __iter__(self) -> Iterator[Authenticated[Any]]:
        """Each once, also what was shown to us before we heard it."""
        yield from self._shown.values()
        yield from (statement for where, statement in self._heard.items() if where not in self._shown)

    def get(self, where: tuple[int, int]) -> Authenticated[Any] | None:
        return self._heard.get(where) or self._shown.get(where)

    def keep(self, where: tuple[int, int], statement: Authenticated[Any], *, shown: bool) -> None:
        seen = self._shown if shown else self._heard
        if where in seen:
            return
        seen[where] = statement
        if len(seen) > self._limit:
            seen.popitem(last=False)

    def correct(self, where: tuple[int, int], statement: Authenticated[Any]) -> None:
        """In place of the one that is held there."""
        for seen in (self._heard, self._shown):
            if where in seen:
                seen[where] = statement


class Witness:
    """Remembers the first statement at each position, of each replica no more than a few windows' worth.

    What is full forgets its oldest.  What a replica said to us itself has a place of its own, so nobody pushes that out
    by showing us its older statements: a replica that lost its disk must get them back.  Our own are not looked at:
    what we said is on our disk.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        n, window = context.quorums.n, context.parameters.window
        self._limits = {PrePrepare: 2 * window, Prepare: 2 * window, Commit: 2 * window, Checkpoint: window}
        self._limits[ViewChange] = _VIEW_CHANGES_MAX
        self._seen = {kind: [_Memory(limit) for _ in range(n)] for kind, limit in self._limits.items()}
        self._decisive: deque[dict[ReplicaId, Authenticated[ViewChange]]] = deque(maxlen=_NEW_VIEWS_MAX)

    def __len__(self) -> int:
        return sum(len(seen) for of_kind in self._seen.values() for seen in of_kind)

    def observe(self, message: object, sender: ReplicaId | None = None) -> list[Evidence]:
        """Remember every statement in a message of ``sender``, or in a record; the proofs that it completes."""
        me = self._context.id
        others = [statement for statement in _statements(message) if statement.message.replica != me]
        return [proof for statement in others if (proof := self._compare(statement, sender)) is not None]

    def contradicts(self, vote: Prepare | Commit) -> bool:
        """Whether this vote, not verified yet, would convict its sender."""
        seen = self._seen[type(vote)][vote.replica].get((vote.view, vote.seq))
        return seen is not None and seen.message.digest != vote.digest

    def said(self, replica: ReplicaId, kind: type) -> list[Authenticated[Any]]:
        """What this replica was seen to sign, of one kind, in order of first sight."""
        return list(self._seen[kind][replica])

    def keep(self, new_view: NewView) -> None:
        """We entered this view: what its VIEW-CHANGEs hid stays provable while COMMITs of earlier views turn up."""
        self._decisive.append({vote.message.replica: vote for vote in new_view.view_changes})

    def recall(self, records: Iterable[Record]) -> None:
        """After a restart: what the log holds of others' statements.  What conflicts among them was proven before."""
        for record in records:
            self.observe(record)
            if isinstance(record, EnteredView):
                self.keep(record.new_view.message)

    def _compare(self, statement: Authenticated[Any], sender: ReplicaId | None) -> Evidence | None:
        message = statement.message
        kind = type(message)
        seen = self._seen[kind][message.replica]
        where = (getattr(message, "view", 0), getattr(message, "seq", 0))
        shown = sender is not None and sender != message.replica
        known = seen.get(where)
        if known is not None and not shown:
            seen.keep(where, known, shown=False)  # it may have been shown to us before
        if known is statement:
            return None
        if known is not None:
            if conflict(known.message, message) and (
                kind is not ViewChange or self._both_valid(seen, known, statement)
            ):
                return Evidence(known, statement)
            return None
        seen.keep(where, statement, shown=shown)
        if kind is Commit:
            return self._hidden_by_view_change(statement)
        return self._hides_commit(statement) if kind is ViewChange else None

    def _both_valid(self, seen: _Memory, known: Authenticated[ViewChange], second: Authenticated[ViewChange]) -> bool:
        """A VIEW-CHANGE that proves nothing is nobody's evidence, and does not stand in the way of a valid one."""
        if not self._is_valid(known):
            seen.correct((known.message.view, 0), second)
            return False
        return self._is_valid(second)

    def _is_valid(self, vote: Authenticated[ViewChange]) -> bool:
        return valid_view_change(vote.message, self._context.quorums, self._context.parameters)

    def _hidden_by_view_change(self, commit: Authenticated[Commit]) -> Evidence | None:
        replica = commit.message.replica
        votes = [new_view[replica] for new_view in self._decisive if replica in new_view]
        for vote in (*votes, *self._seen[ViewChange][replica]):
            if vote.message.view > commit.message.view and conflict(commit.message, vote.message):
                return Evidence(commit, vote) if self._is_valid(vote) else None
        return None

    def _hides_commit(self, vote: Authenticated[ViewChange]) -> Evidence | None:
        message = vote.message
        for commit in self._seen[Commit][message.replica]:
            if conflict(commit.message, message):
                return Evidence(commit, vote) if self._is_valid(vote) else None
        return None


def _statements(message: object) -> Iterator[Authenticated[Any]]:
    """Every statement of a replica in a message or record, nested ones included."""
    match message:
        case Authenticated():
            yield from _with_nested(message)
        case Proposal(header, batch) | Accepted(Proposal(header, batch), _):
            yield header
            yield from _of_evidence(batch.evidence)
        case Batches(batches):
            for certified in batches:
                yield from certified.commits
                yield from _of_evidence(certified.batch.evidence)
        case Bodies(bodies):
            for body in bodies:
                yield from _of_evidence(body.evidence)
        case StableCheckpoint(stable) | Stable(stable):
            yield from stable.checkpoints
        case Evidence():
            yield from _of_evidence((message,))
        case _:
            yield from _in_record(message)


def _in_record(record: object) -> Iterator[Authenticated[Any]]:
    match record:
        case Prepared(prepared, _):
            yield from _of_prepared(prepared)
        case Committed(commits):
            yield from commits
        case EnteredView(new_view):
            yield from _with_nested(new_view)


def _of_evidence(proofs: tuple[Evidence, ...]) -> Iterator[Authenticated[Any]]:
    for proof in proofs:
        yield from _with_nested(proof.first)
        yield from _with_nested(proof.second)


def _with_nested(statement: Authenticated[Any]) -> Iterator[Authenticated[Any]]:
    message = statement.message
    match message:
        case Commit() | Checkpoint() | PrePrepare():
            yield statement
        case Prepare():
            yield message.header
            yield statement
        case ViewChange():
            yield from message.stable.checkpoints
            for certificate in message.prepared:
                yield from _of_prepared(certificate)
            yield statement
        case NewView():  # two for one view are no proof, their headers may be
            yield from message.pre_prepares
            for vote in message.view_changes:
                yield from _with_nested(vote)


def _of_prepared(certificate: PreparedCertificate) -> Iterator[Authenticated[Any]]:
    yield certificate.header
    for prepare in certificate.prepares:
        yield from _with_nested(prepare)
