"""Who is to blame: proofs out of what several replicas wrote down, compared afterwards (DESIGN §4, Evidence).

When two correct replicas executed different batches, more than f replicas lied.  Their lies are in the certificates by
which each of the two was convinced, but neither may ever have seen those of the other: together they convict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from bft.core import effects
from bft.core.effects import Record
from bft.core.evidence import conflict
from bft.core.messages import (
    Authenticated,
    CheckpointCertificate,
    Commit,
    Evidence,
    NewView,
    PreparedCertificate,
    ReplicaId,
    ViewChange,
)


def audit(
    logs: Iterable[Iterable[Record]], *, genuine: Callable[[Authenticated[Any]], bool] = lambda _: True
) -> list[Evidence]:
    """A proof against each replica that contradicts itself anywhere in these logs, ascending by replica.

    Statements that are not `genuine` are left out: whose log it is may have written what it liked.

    Complete: if two of the logs hold different committed batches at one sequence number, at least f + 1 replicas are
    convicted; the two quorums, or the one that committed first and the one that began the view in which another batch
    was prepared, share as many.
    """
    said: dict[ReplicaId, dict[bytes, Authenticated[Any]]] = {}
    for log in logs:
        for record in log:
            for statement in _statements(record):
                by_signature = said.setdefault(statement.message.replica, {})
                if statement.signature not in by_signature and genuine(statement):
                    by_signature[statement.signature] = statement
    proofs = [_conviction(list(statements.values())) for _, statements in sorted(said.items())]
    return [proof for proof in proofs if proof is not None]


def _conviction(statements: list[Authenticated[Any]]) -> Evidence | None:
    """Two conflicting ones among the statements of one replica."""
    firsts: dict[tuple[Any, ...], Authenticated[Any]] = {}
    for statement in statements:
        message = statement.message
        place = (type(message), getattr(message, "view", None), getattr(message, "seq", None))
        first = firsts.setdefault(place, statement)
        if conflict(first.message, message):
            return Evidence(first, statement)
    commits = [s for s in firsts.values() if isinstance(s.message, Commit)]
    left = [s for s in firsts.values() if isinstance(s.message, ViewChange)]
    for commit in commits:
        for view_change in left:
            if conflict(commit.message, view_change.message):
                return Evidence(commit, view_change)
    return None


def _statements(record: Record) -> Iterator[Authenticated[Any]]:
    match record:
        case effects.Accepted():
            yield record.proposal.header
            if record.prepare is not None:
                yield record.prepare
        case effects.Prepared():
            yield from _of_prepared(record.certificate)
            yield record.commit
        case effects.Committed():
            yield from record.commits
        case effects.Fetched():
            yield from record.certified.commits
        case effects.CheckpointTaken():
            yield record.checkpoint
        case effects.Stable():
            yield from _of_stable(record.certificate)
        case effects.LeftView():
            yield from _of_view_change(record.view_change)
        case effects.EnteredView():
            yield from _of_new_view(record.new_view.message)
        case effects.Proven():
            yield record.evidence.first
            yield record.evidence.second


def _of_prepared(certificate: PreparedCertificate) -> Iterator[Authenticated[Any]]:
    yield certificate.header
    for prepare in certificate.prepares:
        yield prepare
        yield prepare.message.header


def _of_stable(certificate: CheckpointCertificate) -> Iterator[Authenticated[Any]]:
    yield from certificate.checkpoints


def _of_view_change(view_change: Authenticated[ViewChange]) -> Iterator[Authenticated[Any]]:
    yield view_change
    yield from _of_stable(view_change.message.stable)
    for certificate in view_change.message.prepared:
        yield from _of_prepared(certificate)


def _of_new_view(new_view: NewView) -> Iterator[Authenticated[Any]]:
    for view_change in new_view.view_changes:
        yield from _of_view_change(view_change)
    yield from new_view.pre_prepares
