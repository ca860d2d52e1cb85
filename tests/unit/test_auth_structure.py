"""What cannot be good whatever its signatures say is refused before one of them is verified (DESIGN §3, rule 5).

Every signature here is genuine: the structure alone is wrong.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

import bft.auth
from bft.core.messages import (
    GENESIS,
    NULL_DIGEST,
    Authenticated,
    Batch,
    Batches,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    NewView,
    PeerMessage,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    StableCheckpoint,
    ViewChange,
)
from bft.errors import InvalidMessage
from crypto.keys import verify
from crypto.pool import VerifierPool
from tests.unit.auth_messages import (
    BATCH,
    CERTIFIED,
    COMMITS,
    HEADER,
    LOW,
    MESSAGES,
    NEW_HEADER,
    PARAMETERS,
    PREPARED,
    PREPARES,
    SEQ,
    STABLE,
    VIEW_CHANGES,
    D,
    gate,
    open_async_at,
    open_at,
    sign,
)

E = bytes(32)  # another digest than D
HIGH = LOW + PARAMETERS.window
NOT_OWN = "a proposal that is not the sender's own"
VIEW_CHANGE = "a VIEW-CHANGE whose certificates prove nothing"
NEW_VIEW = "a NEW-VIEW that does not follow from its VIEW-CHANGEs"
CHECKPOINT = "a checkpoint certificate without a quorum"
BATCHES = "a batch without a quorum of COMMITs"
EVIDENCE = "evidence of no conflict"


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The signatures that were verified, by the gate or in its pool."""
    seen: list[bytes] = []

    def recording(public_raw: bytes, data: bytes, signature: bytes) -> bool:
        seen.append(signature)
        return verify(public_raw, data, signature)

    monkeypatch.setattr("bft.auth.verify", recording)
    monkeypatch.setattr("crypto.pool.verify", recording)
    return seen


def stable(*votes: tuple[int, int, bytes]) -> CheckpointCertificate:
    """CHECKPOINTs of (replica, seq, root)."""
    return CheckpointCertificate(tuple(sign(Checkpoint(seq, root, replica)) for replica, seq, root in votes))


def quorum_at(seq: int, root: bytes = D) -> CheckpointCertificate:
    return stable(*((replica, seq, root) for replica in (0, 1, 2)))


def prepared(
    view: int = 5,
    seq: int = SEQ,
    digest: bytes = BATCH.digest,
    backups: Iterable[int] = (0, 2, 3),
    voted: Authenticated[PrePrepare] | None = None,
) -> PreparedCertificate:
    """A header with PREPAREs of `backups`, which are for it or, if given, for `voted`."""
    header = sign(PrePrepare(view, seq, digest, view % 4))
    votes = tuple(sign(Prepare(header if voted is None else voted, i)) for i in backups)
    return PreparedCertificate(header, votes)


def view_change(
    *certificates: PreparedCertificate, view: int = 6, replica: int = 0, at: CheckpointCertificate = STABLE
) -> Authenticated[ViewChange]:
    return sign(ViewChange(view, at, certificates, replica))


def new_view(
    *headers: Authenticated[PrePrepare], view: int = 6, changes: Iterable[Authenticated[ViewChange]] = VIEW_CHANGES
) -> Authenticated[NewView]:
    return sign(NewView(view, tuple(changes), headers, view % 4))


def header(seq: int, digest: bytes, view: int = 6) -> Authenticated[PrePrepare]:
    return sign(PrePrepare(view, seq, digest, view % 4))


def commits(*votes: tuple[int, int, int, bytes]) -> tuple[Authenticated[Commit], ...]:
    """COMMITs of (replica, view, seq, digest)."""
    return tuple(sign(Commit(view, seq, digest, replica)) for replica, view, seq, digest in votes)


# Checkpoints that no quorum agrees on; each is wrong in a STABLE-CHECKPOINT and in a VIEW-CHANGE alike.
UNSTABLE: dict[str, CheckpointCertificate] = {
    "of a minority": stable((0, LOW, D), (1, LOW, D)),
    "of one replica thrice": CheckpointCertificate((STABLE.checkpoints[0],) * 3),
    "of one replica twice, with a quorum of votes": CheckpointCertificate((*STABLE.checkpoints, STABLE.checkpoints[0])),
    "of different roots": stable((0, LOW, D), (1, LOW, D), (2, LOW, E)),
    "of different sequence numbers": stable((0, LOW, D), (1, LOW, D), (2, 2 * LOW, D)),
    "of sequence number 0": quorum_at(0),
}

UNPROVEN: dict[str, Authenticated[ViewChange]] = {
    **{f"checkpoint {what}": view_change(at=certificate) for what, certificate in UNSTABLE.items()},
    "checkpoint between two intervals": view_change(at=quorum_at(LOW - 1)),
    "PREPAREs of a minority": view_change(prepared(backups=(0,))),
    "no PREPAREs": view_change(prepared(backups=())),
    "one backup's PREPARE twice": view_change(PreparedCertificate(HEADER, (PREPARES[0], PREPARES[0]))),
    "a PREPARE of the primary": view_change(prepared(backups=(0, 1))),
    "PREPAREs for another digest": view_change(prepared(voted=header(SEQ, D, view=5))),
    "PREPAREs for another sequence number": view_change(prepared(voted=header(SEQ + 1, BATCH.digest, view=5))),
    "PREPAREs for another view": view_change(prepared(voted=header(SEQ, BATCH.digest, view=1))),
    "prepared in the view it asks for": view_change(prepared(view=6, backups=(0, 1, 3))),
    "prepared in a later view": view_change(prepared(view=9)),
    "prepared at the low watermark": view_change(prepared(seq=LOW)),
    "prepared above the high watermark": view_change(prepared(seq=HIGH + 1)),
    "prepared twice at one sequence number": view_change(prepared(view=1), prepared(view=5)),
    "prepared in descending order": view_change(prepared(seq=SEQ + 1), prepared(seq=SEQ)),
    "the last of several proves nothing": view_change(PREPARED, prepared(seq=SEQ + 1, backups=(0,))),
}

# Prepared at SEQ + 1 only: SEQ must be re-proposed as null.
GAP = tuple(view_change(prepared(seq=SEQ + 1), replica=i) for i in (0, 2, 3))
IDLE = tuple(view_change(replica=i) for i in (0, 1, 2))

UNFOUNDED_NEW_VIEWS: dict[str, Authenticated[NewView]] = {
    "view 0": new_view(view=0, changes=[view_change(view=0, replica=i) for i in (0, 1, 2)]),
    "VIEW-CHANGEs of a minority": new_view(NEW_HEADER, changes=VIEW_CHANGES[:2]),
    "no VIEW-CHANGEs": new_view(changes=()),
    "one replica's VIEW-CHANGE twice": new_view(NEW_HEADER, changes=(*VIEW_CHANGES[:2], VIEW_CHANGES[1])),
    "VIEW-CHANGEs in descending order": new_view(NEW_HEADER, changes=VIEW_CHANGES[::-1]),
    "a VIEW-CHANGE for another view": new_view(
        NEW_HEADER, changes=(*VIEW_CHANGES[:2], view_change(PREPARED, view=10, replica=3))
    ),
    "a VIEW-CHANGE that proves nothing": new_view(
        NEW_HEADER, changes=(*VIEW_CHANGES[:2], view_change(prepared(backups=(0,)), replica=3))
    ),
    "what was prepared is left out": new_view(),
    "what was prepared is made null": new_view(header(SEQ, NULL_DIGEST)),
    "another batch than was prepared": new_view(header(SEQ, D)),
    "another sequence number than was prepared": new_view(header(SEQ + 1, BATCH.digest)),
    "a header of another view": new_view(header(SEQ, BATCH.digest, view=10)),
    "a header too many": new_view(NEW_HEADER, header(SEQ + 1, NULL_DIGEST)),
    "a header twice": new_view(NEW_HEADER, NEW_HEADER),
    "a header although nothing was prepared": new_view(NEW_HEADER, changes=IDLE),
    "a gap left open": new_view(header(SEQ + 1, BATCH.digest), changes=GAP),
    "a gap filled with a batch": new_view(header(SEQ, D), header(SEQ + 1, BATCH.digest), changes=GAP),
}

UNCERTIFIED: dict[str, CertifiedBatch] = {
    "COMMITs of a minority": CertifiedBatch(BATCH, COMMITS[:2]),
    "one replica's COMMIT thrice": CertifiedBatch(BATCH, (COMMITS[0],) * 3),
    "one replica's COMMIT twice, with a quorum of votes": CertifiedBatch(BATCH, (*COMMITS, COMMITS[0])),
    "COMMITs for another batch": CertifiedBatch(Batch(BATCH.time_ns, BATCH.requests[:2]), COMMITS),
    "COMMITs for another time": CertifiedBatch(Batch(BATCH.time_ns + 1, BATCH.requests), COMMITS),
    "COMMITs of different views": CertifiedBatch(BATCH, (*COMMITS[:2], *commits((2, 6, SEQ, BATCH.digest)))),
    "COMMITs of different sequence numbers": CertifiedBatch(
        BATCH, (*COMMITS[:2], *commits((2, 5, SEQ + 1, BATCH.digest)))
    ),
    "COMMITs of different digests": CertifiedBatch(BATCH, (*COMMITS[:2], *commits((2, 5, SEQ, D)))),
}


def both(first: Any, second: Any) -> Evidence:
    return Evidence(sign(first), sign(second))


NO_CONFLICTS: dict[str, Evidence] = {
    "one statement twice": Evidence(COMMITS[0], COMMITS[0]),
    "COMMITs in different views": both(Commit(5, SEQ, D, 0), Commit(6, SEQ, E, 0)),
    "COMMITs at different sequence numbers": both(Commit(5, SEQ, D, 0), Commit(5, SEQ + 1, E, 0)),
    "headers in different views": both(PrePrepare(1, SEQ, D, 1), PrePrepare(5, SEQ, E, 1)),
    "headers at different sequence numbers": both(PrePrepare(5, SEQ, D, 1), PrePrepare(5, SEQ + 1, E, 1)),
    "PREPAREs at different sequence numbers": both(
        Prepare(header(SEQ, D, view=5), 2), Prepare(header(SEQ + 1, E, view=5), 2)
    ),
    "CHECKPOINTs at different sequence numbers": both(Checkpoint(LOW, D, 0), Checkpoint(2 * LOW, E, 0)),
    "a VIEW-CHANGE for the view of the COMMIT": Evidence(sign(Commit(6, SEQ, D, 0)), view_change(view=6)),
    "a VIEW-CHANGE for an earlier view than the COMMIT's": Evidence(sign(Commit(7, SEQ, D, 0)), view_change(view=6)),
    "a VIEW-CHANGE that shows the batch of the COMMIT": Evidence(
        sign(Commit(5, SEQ, D, 0)), view_change(prepared(view=5, digest=D))
    ),
    "a VIEW-CHANGE that shows another of a later view than the COMMIT's": Evidence(
        sign(Commit(4, SEQ, E, 0)), view_change(prepared(view=5, digest=D))
    ),
    "a VIEW-CHANGE past whose checkpoint the COMMIT is not": Evidence(sign(Commit(5, LOW, D, 0)), view_change(view=6)),
    "a COMMIT after the VIEW-CHANGE in the frame": Evidence(view_change(view=6), sign(Commit(5, SEQ, D, 0))),
    "a PREPARE and a VIEW-CHANGE": Evidence(sign(Prepare(header(SEQ, D, view=5), 0)), view_change(view=6)),
    "VIEW-CHANGEs for different views": Evidence(view_change(view=6), view_change(view=7)),
    "a VIEW-CHANGE that proves nothing, first": Evidence(view_change(prepared(backups=(0,))), VIEW_CHANGES[0]),
    "a VIEW-CHANGE that proves nothing, second": Evidence(VIEW_CHANGES[0], view_change(prepared(backups=(0,)))),
}

KINDS: list[tuple[str, str, Mapping[str, PeerMessage]]] = [
    ("view-change", VIEW_CHANGE, UNPROVEN),
    ("new-view", NEW_VIEW, UNFOUNDED_NEW_VIEWS),
    ("stable-checkpoint", CHECKPOINT, {what: StableCheckpoint(c) for what, c in UNSTABLE.items()}),
    ("batches", BATCHES, {what: Batches((c,)) for what, c in UNCERTIFIED.items()}),
    ("batches", BATCHES, {"the last of two": Batches((CERTIFIED, UNCERTIFIED["COMMITs of a minority"]))}),
    ("evidence", EVIDENCE, NO_CONFLICTS),
]
UNFOUNDED = {f"{kind}: {what}": (message, reason) for kind, reason, cases in KINDS for what, message in cases.items()}

FOUNDED: dict[str, PeerMessage] = {
    "view-change before the first checkpoint": view_change(prepared(seq=1), at=GENESIS),
    "view-change with a bare quorum of PREPAREs": view_change(prepared(backups=(0, 2))),
    "view-change up to the high watermark": view_change(PREPARED, prepared(seq=HIGH)),
    "new-view with nothing to re-propose": new_view(changes=IDLE),
    "new-view with a gap": new_view(header(SEQ, NULL_DIGEST), header(SEQ + 1, BATCH.digest), changes=GAP),
    "new-view with the batch of the highest view": new_view(
        header(SEQ, D),
        changes=(
            view_change(prepared(view=1, digest=E), replica=0),
            view_change(prepared(view=5, digest=D), replica=1),
            view_change(prepared(view=4, digest=E, backups=(1, 2, 3)), replica=2),
        ),
    ),
    "new-view from the highest checkpoint": new_view(
        changes=(*VIEW_CHANGES[:2], view_change(at=quorum_at(2 * LOW), replica=3)),
    ),
    "stable-checkpoint of genesis": StableCheckpoint(GENESIS),
    "no batches": Batches(()),
    "evidence of two headers": both(PrePrepare(5, SEQ, D, 1), PrePrepare(5, SEQ, E, 1)),
    "evidence of two PREPAREs": both(Prepare(header(SEQ, D, view=5), 2), Prepare(header(SEQ, E, view=5), 2)),
    "evidence of two COMMITs": both(Commit(5, SEQ, D, 0), Commit(5, SEQ, E, 0)),
    "evidence of two CHECKPOINTs": both(Checkpoint(LOW, D, 0), Checkpoint(LOW, E, 0)),
    "evidence of a COMMIT and a VIEW-CHANGE without it": Evidence(sign(Commit(5, SEQ, D, 0)), view_change(view=6)),
    "evidence of a COMMIT and a VIEW-CHANGE with less": Evidence(
        sign(Commit(5, SEQ, D, 0)), view_change(prepared(view=4, digest=D, backups=(1, 2, 3)))
    ),
    "evidence of a COMMIT and a VIEW-CHANGE with another": Evidence(
        sign(Commit(5, SEQ, E, 0)), view_change(prepared(view=5, digest=D))
    ),
    "evidence of two VIEW-CHANGEs": Evidence(VIEW_CHANGES[0], view_change(replica=0)),
}


class TestUnfounded:
    @pytest.mark.parametrize("name", UNFOUNDED)
    def test_it_is_refused_and_no_signature_is_verified(self, name, verified):
        message, reason = UNFOUNDED[name]
        with pytest.raises(InvalidMessage) as caught:
            open_at(gate(), message)
        assert (str(caught.value), verified) == (reason, [])

    @pytest.mark.parametrize("name", UNFOUNDED)
    async def test_it_costs_the_pool_nothing_either(self, name, verified):
        message, reason = UNFOUNDED[name]
        with pytest.raises(InvalidMessage) as caught:
            await open_async_at(gate(pool=VerifierPool(0)), message)
        assert (str(caught.value), verified) == (reason, [])

    @pytest.mark.parametrize("name", UNFOUNDED)
    def test_every_signature_of_it_is_genuine(self, name, verified, monkeypatch):
        """So that nothing but its structure was refused above."""
        monkeypatch.setattr(bft.auth.Authenticator, "_unfounded", lambda *_: None)
        message, _ = UNFOUNDED[name]
        assert open_at(gate(), message) == message
        assert verified

    @pytest.mark.parametrize("sender", [0, 2, 3])
    def test_a_proposal_on_another_link_than_its_primarys_is_refused(self, sender, verified):
        proposal = Proposal(HEADER, BATCH)
        with pytest.raises(InvalidMessage) as caught:
            open_at(gate(), proposal, sender=sender)
        assert (str(caught.value), verified) == (NOT_OWN, [])

    def test_it_is_refused_when_all_its_signatures_are_known(self, verified):
        """What is remembered is a signature, not what follows from it."""
        authenticator = gate()
        open_at(authenticator, MESSAGES["batches"])
        with pytest.raises(InvalidMessage, match=BATCHES):
            open_at(authenticator, Batches((UNCERTIFIED["COMMITs of a minority"],)))


class TestFounded:
    @pytest.mark.parametrize("name", FOUNDED)
    def test_it_is_let_through(self, name):
        assert open_at(gate(), FOUNDED[name]) == FOUNDED[name]

    @pytest.mark.parametrize("name", [name for name, message in MESSAGES.items() if not isinstance(message, Proposal)])
    @pytest.mark.parametrize("sender", range(4))
    def test_all_but_proposals_may_come_on_any_link(self, name, sender):
        assert open_at(gate(), MESSAGES[name], sender=sender) == MESSAGES[name]

    def test_a_proposal_on_its_primarys_link_is_let_through(self, verified):
        proposal = Proposal(HEADER, BATCH)
        assert open_at(gate(), proposal, sender=1) == proposal
        assert len(verified) == 1 + len(BATCH.requests)
