"""The core's records as log entries and back; a record is encoded like the message that it holds.

Only our own log is decoded here, whose checksums hold: signatures are not verified again.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from bft.codec import Limits, MessageType, decode_body, encode_body
from bft.codec.statements import Decoder, prepared_fields, signed_fields
from bft.codec.wire import array, fields_of, natural, pack, unpack
from bft.core.effects import (
    Accepted,
    Asked,
    CheckpointTaken,
    Committed,
    EnteredView,
    Fetched,
    LeftView,
    Prepared,
    Proven,
    Record,
    Silenced,
    Spoke,
    Stable,
)
from bft.core.messages import Batches, Seq, StableCheckpoint
from bft.errors import DataDirectoryError, InvalidMessage


class RecordType(IntEnum):
    """The number of each record type in the log."""

    ACCEPTED = 1
    PREPARED = 2
    COMMITTED = 3
    CHECKPOINT_TAKEN = 4
    STABLE = 5
    LEFT_VIEW = 6
    ENTERED_VIEW = 7
    PROVEN = 8
    FETCHED = 9
    SILENCED = 10
    ASKED = 11
    SPOKE = 12


class Entry(NamedTuple):
    """A record as the log holds it."""

    type: int
    seq: int  # the sequence number that it is about; of LEFT_VIEW and ENTERED_VIEW the view; else 0
    payload: bytes


_SLOT_TYPES: Final = frozenset(
    {
        RecordType.ACCEPTED,
        RecordType.PREPARED,
        RecordType.COMMITTED,
        RecordType.FETCHED,
        RecordType.CHECKPOINT_TAKEN,
    }
)
_VIEW_TYPES: Final = (RecordType.LEFT_VIEW, RecordType.ENTERED_VIEW)
_SILENCE_TYPES: Final = frozenset({RecordType.ASKED, RecordType.SILENCED, RecordType.SPOKE})


def retained(heads: Sequence[tuple[int, int]], truncated: Seq) -> list[int]:
    """Positions of the (type, seq) that are still needed once everything up to ``truncated`` is in a snapshot.

    Kept: all about later sequence numbers, the stable certificates from there on, the highest view left and the
    highest entered, all evidence, the last silence.  What is dropped binds nobody any more: slots at or below a stable
    checkpoint are never voted on again, a view below one that we left is closed to us, and so is a silence that ended.
    """
    latest = {wanted: max((seq for type_, seq in heads if type_ == wanted), default=0) for wanted in _VIEW_TYPES}

    spoke = max((position for position, (type_, _) in enumerate(heads) if type_ == RecordType.SPOKE), default=0)

    def is_kept(position: int, type_: int, seq: int) -> bool:
        if type_ in _SLOT_TYPES:
            return seq > truncated
        if type_ == RecordType.STABLE:
            return seq >= truncated
        if type_ in _SILENCE_TYPES:
            return position >= spoke
        return seq == latest.get(RecordType(type_), seq)

    return [position for position, (type_, seq) in enumerate(heads) if is_kept(position, type_, seq)]


def encode_record(record: Record) -> Entry:
    """The entry that `decode_record` turns into an equal record."""
    type_, seq_of, fields = _WRITERS[type(record)]
    return Entry(type_, seq_of(record), fields(record))


def decode_record(entry: Entry, limits: Limits) -> Record:
    """The record in an entry.  Raises DataDirectoryError if a valid checksum covers something else than a record."""
    try:
        return _READERS[entry.type](entry.payload, limits)
    except KeyError as error:
        raise DataDirectoryError(
            f"the log holds a record of unknown type {entry.type}: a newer version wrote it"
        ) from error
    except InvalidMessage as error:
        raise DataDirectoryError(f"the log holds a record of type {entry.type} that cannot be read: {error}") from error


def _write_accepted(record: Accepted) -> bytes:
    prepare = b"" if record.prepare is None else encode_body(record.prepare)[1]
    return pack((encode_body(record.proposal)[1], prepare))


def _read_accepted(payload: bytes, limits: Limits) -> Accepted:
    proposal, prepare = unpack(payload, fields=2, array_max=2)
    return Accepted(
        decode_body(MessageType.PROPOSAL, proposal, limits).unverified,
        decode_body(MessageType.PREPARE, prepare, limits).unverified if prepare else None,
    )


def _write_prepared(record: Prepared) -> bytes:
    return pack((prepared_fields(record.certificate), signed_fields(record.commit)))


def _read_prepared(payload: bytes, limits: Limits) -> Prepared:
    certificate, commit = unpack(payload, fields=2, array_max=max(limits.n, 2))
    decoder = Decoder(limits)
    return Prepared(decoder.prepared(fields_of(certificate, "certificate", 2)), decoder.signed_commit(commit))


def _write_committed(record: Committed) -> bytes:
    return pack((tuple([signed_fields(commit) for commit in record.commits]),))


def _read_committed(payload: bytes, limits: Limits) -> Committed:
    decoder = Decoder(limits)
    (commits,) = unpack(payload, fields=1, array_max=max(limits.n, 2))
    array(commits, "commits", at_least=1, at_most=limits.n)
    return Committed(tuple([decoder.signed_commit(commit) for commit in commits]))


def _read_silenced(payload: bytes, _: Limits) -> Silenced:
    until, above = unpack(payload, fields=2, array_max=2)
    return Silenced(natural(until, "until"), natural(above, "above"))


def _write_asked(record: Asked) -> bytes:
    votes = (record.proposed, record.prepared, record.committed)
    return pack((record.view, record.low, record.checkpoint, *[tuple(sorted(seqs)) for seqs in votes]))


def _read_asked(payload: bytes, limits: Limits) -> Asked:
    view, low, checkpoint, *votes = unpack(payload, fields=6, array_max=max(limits.window, 6))
    proposed, prepared, committed = (
        frozenset(natural(seq, "seq") for seq in array(seqs, "votes", at_most=limits.window)) for seqs in votes
    )
    return Asked(
        natural(view, "view"), natural(low, "low"), natural(checkpoint, "checkpoint"), proposed, prepared, committed
    )


def _read_spoke(payload: bytes, _: Limits) -> Spoke:
    unpack(payload, fields=0, array_max=0)
    return Spoke()


def _unverified(kind: MessageType) -> Callable[[bytes, Limits], Any]:
    return lambda payload, limits: decode_body(kind, payload, limits).unverified


_checkpoint, _stable, _view_change, _new_view, _evidence, _batches = (
    _unverified(kind)
    for kind in (
        MessageType.CHECKPOINT,
        MessageType.STABLE_CHECKPOINT,
        MessageType.VIEW_CHANGE,
        MessageType.NEW_VIEW,
        MessageType.EVIDENCE,
        MessageType.BATCHES,
    )
)

_WRITERS: Final[dict[type, tuple[RecordType, Callable[[Any], int], Callable[[Any], bytes]]]] = {
    Accepted: (RecordType.ACCEPTED, lambda r: r.proposal.header.message.seq, _write_accepted),
    Prepared: (RecordType.PREPARED, lambda r: r.certificate.seq, _write_prepared),
    Committed: (RecordType.COMMITTED, lambda r: r.commits[0].message.seq, _write_committed),
    Fetched: (RecordType.FETCHED, lambda r: r.certified.seq, lambda r: encode_body(Batches((r.certified,)))[1]),
    CheckpointTaken: (
        RecordType.CHECKPOINT_TAKEN,
        lambda r: r.checkpoint.message.seq,
        lambda r: encode_body(r.checkpoint)[1],
    ),
    Stable: (RecordType.STABLE, lambda r: r.certificate.seq, lambda r: encode_body(StableCheckpoint(r.certificate))[1]),
    LeftView: (RecordType.LEFT_VIEW, lambda r: r.view_change.message.view, lambda r: encode_body(r.view_change)[1]),
    EnteredView: (RecordType.ENTERED_VIEW, lambda r: r.new_view.message.view, lambda r: encode_body(r.new_view)[1]),
    Proven: (RecordType.PROVEN, lambda _: 0, lambda r: encode_body(r.evidence)[1]),
    Silenced: (RecordType.SILENCED, lambda _: 0, lambda r: pack((r.until, r.above))),
    Asked: (RecordType.ASKED, lambda _: 0, _write_asked),
    Spoke: (RecordType.SPOKE, lambda _: 0, lambda _: pack(())),
}

_READERS: Final[dict[int, Callable[[bytes, Limits], Record]]] = {
    RecordType.ACCEPTED: _read_accepted,
    RecordType.PREPARED: _read_prepared,
    RecordType.COMMITTED: _read_committed,
    RecordType.FETCHED: lambda payload, limits: Fetched(_batches(payload, limits).batches[0]),
    RecordType.CHECKPOINT_TAKEN: lambda payload, limits: CheckpointTaken(_checkpoint(payload, limits)),
    RecordType.STABLE: lambda payload, limits: Stable(_stable(payload, limits).certificate),
    RecordType.LEFT_VIEW: lambda payload, limits: LeftView(_view_change(payload, limits)),
    RecordType.ENTERED_VIEW: lambda payload, limits: EnteredView(_new_view(payload, limits)),
    RecordType.SILENCED: _read_silenced,
    RecordType.ASKED: _read_asked,
    RecordType.SPOKE: _read_spoke,
    RecordType.PROVEN: lambda payload, limits: Proven(_evidence(payload, limits)),
}
