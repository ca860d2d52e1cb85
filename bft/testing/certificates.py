"""Certificates that correct replicas write down: each is a quorum, and no two of them disagree.

Quorums are counted here on purpose, not by `bft.core.quorum`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NoReturn

from bft.core.messages import (
    NULL_DIGEST,
    Authenticated,
    CheckpointCertificate,
    Commit,
    Digest,
    NewView,
    PreparedCertificate,
    ReplicaId,
    Seq,
    View,
    ViewChange,
)
from bft.testing.trace import describe


class Certificates:
    """All that was proven in a run; `fail` is called with what is wrong."""

    def __init__(self, n: int, fail: Callable[[str], NoReturn]) -> None:
        f = (n - 1) // 3
        self._quorum = (n + f + 1 + 1) // 2  # ceil((n + f + 1) / 2): any two share f + 1
        self._fail = fail
        self.stable: set[Seq] = set()  # checkpoints that a quorum made stable
        self.roots: dict[Seq, Digest] = {}
        self._prepared: dict[tuple[View, Seq], Digest] = {}
        self._committed: dict[Seq, tuple[View, Digest]] = {}  # with the lowest view that was seen
        self._committed_max: Seq = 0

    def _is_quorum(self, signers: Iterable[ReplicaId]) -> bool:
        seen = list(signers)
        return len(set(seen)) == len(seen) >= self._quorum

    def check_prepared(self, certificate: PreparedCertificate) -> None:
        header = certificate.header.message
        votes = [vote.message for vote in certificate.prepares]
        if not self._is_quorum([header.replica, *(vote.replica for vote in votes)]) or any(
            vote.header.message != header for vote in votes
        ):
            self._fail(f"no quorum prepared view {header.view} seq {header.seq}")
        if self._prepared.setdefault((header.view, header.seq), header.digest) != header.digest:
            self._fail(f"two digests are prepared in view {header.view} at {header.seq}")

    def check_committed(self, commits: tuple[Authenticated[Commit], ...], body: Digest | None = None) -> None:
        votes = [commit.message for commit in commits]
        claims = {(vote.view, vote.seq, vote.digest) for vote in votes}
        if not self._is_quorum(vote.replica for vote in votes) or len(claims) != 1:
            self._fail(f"no quorum committed {describe(votes[0]) if votes else 'nothing'}")
        view, seq, digest = claims.pop()
        known_view, known = self._committed.setdefault(seq, (view, digest))
        if known != digest or body not in (None, digest):
            self._fail(f"two digests are committed at {seq}: in view {known_view} and in view {view}")
        self._committed[seq] = (min(view, known_view), digest)
        self._committed_max = max(self._committed_max, seq)

    def check_stable(self, certificate: CheckpointCertificate) -> None:
        votes = [checkpoint.message for checkpoint in certificate.checkpoints]
        if not self._is_quorum(vote.replica for vote in votes) or len({(vote.seq, vote.root) for vote in votes}) != 1:
            self._fail(f"no quorum made checkpoint {certificate.seq} stable")
        self.same_root(certificate.seq, certificate.root)
        self.stable.add(certificate.seq)

    def same_root(self, seq: Seq, root: Digest) -> None:
        if self.roots.setdefault(seq, root) != root:
            self._fail(f"two roots for checkpoint {seq}")

    def forget_root(self, seq: Seq) -> None:
        """Nobody remembers the state after `seq`, unless a quorum's certificate does."""
        if seq not in self.stable:
            self.roots.pop(seq, None)

    def check_new_view(self, new_view: NewView) -> None:
        """It begins with what its view changes call for, and contradicts nothing committed in an earlier view."""
        changes = [change.message for change in new_view.view_changes]
        if not self._is_quorum(change.replica for change in changes):
            self._fail(f"view {new_view.view} begins without a quorum")
        low = max(change.stable.seq for change in changes)
        proposed = {header.message.seq: header.message.digest for header in new_view.pre_prepares}
        if (
            proposed != _re_proposed(changes, low)
            or len(proposed) != len(new_view.pre_prepares)
            or any(header.message.view != new_view.view for header in new_view.pre_prepares)
            or any(change.view != new_view.view for change in changes)
        ):
            self._fail(f"view {new_view.view} begins with other headers than its view changes call for")
        for seq in range(low + 1, self._committed_max + 1):
            view, digest = self._committed.get(seq, (new_view.view, b""))
            if view < new_view.view and proposed.get(seq) != digest:
                self._fail(f"view {new_view.view} begins without what committed at {seq} in view {view}")


def _re_proposed(changes: list[ViewChange], low: Seq) -> dict[Seq, Digest]:
    """OSDI'99 §4.4: above the highest stable checkpoint, what was prepared in the highest view, else null."""
    best: dict[Seq, tuple[View, Digest]] = {}
    for change in changes:
        for certificate in change.prepared:
            if certificate.seq > low:
                found = (certificate.view, certificate.digest)
                best[certificate.seq] = max(best.get(certificate.seq, found), found)
    return {seq: best.get(seq, (0, NULL_DIGEST))[1] for seq in range(low + 1, max(best, default=low) + 1)}
