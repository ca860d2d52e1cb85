"""What a new view must begin with: a pure function of its VIEW-CHANGEs (OSDI'99 §4.4).

The primary computes it to write the NEW-VIEW, every backup computes it again and requires equality.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bft.core.messages import (
    NULL_DIGEST,
    CheckpointCertificate,
    Digest,
    NewView,
    PreparedCertificate,
    PrePrepare,
    Seq,
    View,
    ViewChange,
)
from bft.core.parameters import Parameters
from bft.core.quorum import Quorums


def valid_view_change(view_change: ViewChange, quorums: Quorums, parameters: Parameters) -> bool:
    """True iff every claim is proven.

    The checkpoint by a quorum; each prepared entry by its certificate, of an earlier view, inside the watermarks that
    the checkpoint gives, one for each sequence number.
    """
    stable = view_change.stable
    seqs = [certificate.seq for certificate in view_change.prepared]
    return (
        quorums.proves_stable(stable)
        and stable.seq % parameters.checkpoint_interval == 0
        and all(earlier < later for earlier, later in pairwise(seqs))
        and all(stable.seq < seq <= stable.seq + parameters.window for seq in seqs)
        and all(c.view < view_change.view and quorums.proves_prepared(c) for c in view_change.prepared)
    )


def starting_checkpoint(view_changes: Sequence[ViewChange]) -> CheckpointCertificate:
    """min-s: the highest stable checkpoint that any of the VIEW-CHANGEs proves."""
    return max((v.stable for v in view_changes), key=lambda certificate: certificate.seq)


def reproposals(view_changes: Sequence[ViewChange]) -> list[tuple[Seq, Digest]]:
    """O: from min-s + 1 to the highest prepared sequence number, what was prepared in the highest view, else null.

    Safe: what committed anywhere was prepared by a quorum, which shares a correct replica with these VIEW-CHANGEs, and
    within one view only one digest can be prepared.
    """
    low = starting_checkpoint(view_changes).seq
    chosen: dict[Seq, PreparedCertificate] = {}
    for view_change in view_changes:
        for certificate in view_change.prepared:
            best = chosen.get(certificate.seq)
            if certificate.seq > low and (best is None or certificate.view > best.view):
                chosen[certificate.seq] = certificate
    return [
        (seq, chosen[seq].digest if seq in chosen else NULL_DIGEST)
        for seq in range(low + 1, max(chosen, default=low) + 1)
    ]


def headers(view: View, view_changes: Sequence[ViewChange], quorums: Quorums) -> list[PrePrepare]:
    """The pre-prepares with which the primary of ``view`` begins it."""
    primary = quorums.primary(view)
    return [PrePrepare(view, seq, digest, primary) for seq, digest in reproposals(view_changes)]


def valid_new_view(new_view: NewView, quorums: Quorums, parameters: Parameters) -> bool:
    """A quorum of distinct replicas' valid VIEW-CHANGEs for exactly this view, and O equal to the recomputed one."""
    view_changes = [v.message for v in new_view.view_changes]
    senders = [v.replica for v in view_changes]
    return (
        new_view.view > 0
        and new_view.replica == quorums.primary(new_view.view)
        and len(senders) >= quorums.quorum
        and all(earlier < later for earlier, later in pairwise(senders))
        and all(0 <= sender < quorums.n for sender in senders)
        and all(v.view == new_view.view for v in view_changes)
        and all(valid_view_change(v, quorums, parameters) for v in view_changes)
        and [p.message for p in new_view.pre_prepares] == headers(new_view.view, view_changes, quorums)
    )
