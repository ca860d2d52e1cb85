"""Records: what the log gives back is what the core asked to persist."""

import pytest

from bft.auth import KeySigner
from bft.codec import Limits
from bft.core import effects as fx
from bft.core import messages as m
from bft.core.parameters import Parameters
from bft.errors import DataDirectoryError
from bft.storage.records import Entry, RecordType, decode_record, encode_record
from crypto.keys import PrivateKey
from crypto.signatures import Domain

N = 4
LIMITS = Limits.of(Parameters(n=N))
DOMAIN = Domain("c", 0)
SIGNERS = [KeySigner(PrivateKey.from_seed(bytes([i + 1]) * 32), DOMAIN) for i in range(N + 1)]
CLIENT = PrivateKey.from_seed(bytes([N + 1]) * 32).public.raw


def prepared(seq: int) -> tuple[m.Proposal, m.PreparedCertificate]:
    request = SIGNERS[N].sign(m.Request(CLIENT, 1, seq, 0, m.RequestKind.APPLICATION, (b"op", b"")))
    batch = m.Batch(17, (request,))
    header = SIGNERS[0].sign(m.PrePrepare(0, seq, batch.digest, 0))
    votes = tuple(SIGNERS[i].sign(m.Prepare(header, i)) for i in (1, 2))
    return m.Proposal(header, batch), m.PreparedCertificate(header, votes)


PROPOSAL, CERTIFICATE = prepared(9)
COMMITS = tuple(SIGNERS[i].sign(m.Commit(0, 9, PROPOSAL.batch.digest, i)) for i in range(3))
CHECKPOINTS = tuple(SIGNERS[i].sign(m.Checkpoint(128, bytes(32), i)) for i in range(3))
STABLE = m.CheckpointCertificate(CHECKPOINTS)
VIEW_CHANGES = tuple(SIGNERS[i].sign(m.ViewChange(5, m.GENESIS, (CERTIFICATE,), i)) for i in range(3))
NEW_VIEW = SIGNERS[1].sign(m.NewView(5, VIEW_CHANGES, (SIGNERS[1].sign(m.PrePrepare(5, 9, bytes(32), 1)),), 1))
EVIDENCE = m.Evidence(COMMITS[0], SIGNERS[0].sign(m.Commit(0, 9, bytes(32), 0)))


@pytest.mark.parametrize(
    ("record", "seq"),
    [
        (fx.Accepted(PROPOSAL, CERTIFICATE.prepares[0]), 9),
        (fx.Accepted(PROPOSAL, None), 9),
        (fx.Prepared(CERTIFICATE, COMMITS[1]), 9),
        (fx.Committed(COMMITS), 9),
        (fx.Fetched(m.CertifiedBatch(PROPOSAL.batch, COMMITS)), 9),
        (fx.CheckpointTaken(CHECKPOINTS[0]), 128),
        (fx.Stable(STABLE), 128),
        (fx.LeftView(VIEW_CHANGES[0]), 5),
        (fx.EnteredView(NEW_VIEW), 5),
        (fx.Proven(EVIDENCE), 0),
        (fx.Silenced(640, 9), 0),
        (fx.Asked(5, 128, 192, frozenset(), frozenset({129, 131}), frozenset({129})), 0),
        (fx.Spoke(), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_record_reads_back_equal(record, seq):
    entry = encode_record(record)
    assert entry.seq == seq
    assert decode_record(entry, LIMITS) == record


def test_an_unknown_record_type_is_refused():
    with pytest.raises(DataDirectoryError, match="unknown type 99"):
        decode_record(Entry(99, 0, b""), LIMITS)


def test_a_record_that_cannot_be_read_is_refused():
    with pytest.raises(DataDirectoryError, match="cannot be read"):
        decode_record(Entry(RecordType.PREPARED, 0, b"\x90"), LIMITS)
