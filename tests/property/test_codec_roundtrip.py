"""Whatever the protocol can say is read back as it was written; whatever else arrives is an InvalidMessage."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.codec import (
    FrameSplitter,
    Hello,
    Limits,
    MessageType,
    Proof,
    Prove,
    Query,
    QueryAnswer,
    Watch,
    decode_body,
    decode_payload,
    encode_body,
    encode_frame,
    encode_payload,
    message_type,
)
from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    BatchResult,
    Bodies,
    CertifiedBatch,
    Checkpoint,
    CheckpointCertificate,
    Commit,
    Evidence,
    FetchBatches,
    FetchBodies,
    FetchState,
    NewView,
    Outcome,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    QueryStable,
    Refusal,
    Reply,
    ReplyStable,
    ReplyStatus,
    Request,
    RequestKind,
    StableCheckpoint,
    StateChunk,
    Status,
    ViewChange,
)
from bft.core.parameters import Parameters
from bft.errors import InvalidMessage
from crypto.certificates import Role

N = 4
LIMITS = Limits.of(Parameters(n=N, checkpoint_interval=2, window=4, pipeline_depth=2))
EVERY_FRAME = {**LIMITS.peer, **LIMITS.client, **LIMITS.sdk}

edges = st.sampled_from([0, 1, 127, 128, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**64 - 1])
numbers = edges | st.integers(0, 2**64 - 1)
replicas = st.integers(0, N - 1)
digests = st.binary(min_size=32, max_size=32)
nibbles = st.lists(st.integers(0, 15), max_size=64).map(bytes)


def some(items, most=3, least=0):
    return st.lists(items, min_size=least, max_size=most).map(tuple)


def signed(messages):
    signatures = st.binary(min_size=64, max_size=64)
    return st.builds(lambda m, signature: Authenticated(m, encode_payload(m), signature), messages, signatures)


requests = st.builds(
    Request,
    client=digests,
    session=numbers,
    number=numbers,
    acked=numbers,
    kind=st.sampled_from(RequestKind),
    operations=some(st.binary(max_size=300), least=1),
)
pre_prepares = st.builds(lambda view, seq, d: PrePrepare(view, seq, d, view % N), numbers, numbers, digests)
prepares = st.builds(Prepare, signed(pre_prepares), replicas)
commits = st.builds(Commit, numbers, numbers, digests, replicas)
checkpoints = st.builds(Checkpoint, numbers, digests, replicas)
stables = st.builds(CheckpointCertificate, some(signed(checkpoints)))
prepared = st.builds(PreparedCertificate, signed(pre_prepares), some(signed(prepares)))
view_changes = st.builds(ViewChange, numbers, stables, some(prepared, most=2), replicas)
new_views = st.builds(
    lambda view, changes, headers: NewView(view, changes, headers, view % N),
    numbers,
    some(signed(view_changes), most=2),
    some(signed(pre_prepares)),
)
results = st.builds(BatchResult, numbers, numbers, digests, replicas)
batches = st.builds(Batch, numbers, some(signed(requests)))
certified = st.builds(CertifiedBatch, batches, some(signed(commits), least=1))


@st.composite
def evidence(draw):
    accused = draw(replicas)
    kind = draw(st.sampled_from([Commit, Checkpoint, Prepare, ViewChange, PrePrepare]))
    views = st.integers(0, 2**62).map(lambda turn: turn * N + accused)
    statements: dict[type, st.SearchStrategy[Any]] = {
        PrePrepare: st.builds(PrePrepare, views, numbers, digests, st.just(accused)),
        Prepare: st.builds(Prepare, signed(pre_prepares), st.just(accused)),
        Commit: st.builds(Commit, numbers, numbers, digests, st.just(accused)),
        Checkpoint: st.builds(Checkpoint, numbers, digests, st.just(accused)),
        ViewChange: st.builds(ViewChange, numbers, stables, some(prepared, most=1), st.just(accused)),
    }
    return Evidence(draw(signed(statements[kind])), draw(signed(statements[kind])))


@st.composite
def replies(draw):
    outcome = st.builds(
        Outcome,
        digests,
        numbers,
        numbers,
        digests,
        numbers,
        st.sampled_from(ReplyStatus),
        some(st.binary(max_size=300)),
    )
    count = draw(st.integers(1, 256))
    index = draw(st.integers(0, count - 1))
    return Reply(draw(outcome), draw(signed(results)), index, count, draw(some(digests)))


names = st.from_regex(r"[a-z0-9-]{1,64}", fullmatch=True)
FRAMES = {
    "request": signed(requests),
    "prepare": signed(prepares),
    "commit": signed(commits),
    "checkpoint": signed(checkpoints),
    "view-change": signed(view_changes),
    "new-view": signed(new_views),
    "proposal": st.builds(Proposal, signed(pre_prepares), batches),
    "evidence": evidence(),
    "status": st.builds(Status, numbers, st.booleans(), numbers, numbers, numbers),
    "fetch-batches": st.builds(FetchBatches, numbers),
    "batches": st.builds(Batches, some(certified)),
    "fetch-bodies": st.builds(FetchBodies, some(digests, least=1)),
    "bodies": st.builds(Bodies, some(batches)),
    "stable-checkpoint": st.builds(StableCheckpoint, stables),
    "fetch-state": st.builds(FetchState, numbers, some(nibbles, least=1)),
    "state-chunk": st.builds(StateChunk, numbers, some(st.tuples(nibbles, st.binary(max_size=300)))),
    "query-stable": st.builds(QueryStable, numbers, numbers, numbers),
    "reply-stable": st.builds(
        ReplyStable,
        numbers,
        numbers,
        stables,
        some(st.one_of(signed(pre_prepares), signed(prepares), signed(commits), signed(checkpoints))),
        st.lists(signed(view_changes), max_size=1).map(tuple),
    ),
    "reply": replies(),
    "refusal": st.builds(Refusal, numbers, numbers, st.text(max_size=60)),
    "hello": st.builds(Hello, names, numbers, st.sampled_from(Role), names),
    "query": st.builds(Query, numbers, st.binary(max_size=300)),
    "watch": st.builds(Watch, numbers, numbers, numbers, st.binary(max_size=300)),
    "prove": st.builds(Prove, numbers, st.binary(max_size=300)),
    "proof": st.builds(Proof, numbers, st.binary(max_size=300)),
    "query-answer": st.builds(QueryAnswer, numbers, numbers, st.binary(max_size=300)),
}
PAYLOADS = {
    "request": requests,
    "pre-prepare": pre_prepares,
    "prepare": prepares,
    "commit": commits,
    "checkpoint": checkpoints,
    "view-change": view_changes,
    "new-view": new_views,
    "batch-result": results,
}


def opened(stream):
    """What a receiver makes of these bytes."""
    return [decode_body(kind, body, LIMITS) for kind, body in FrameSplitter(EVERY_FRAME).feed(stream)]


def test_every_type_of_frame_is_tried():
    signed_only_within = {MessageType.PRE_PREPARE, MessageType.BATCH_RESULT}
    assert len(FRAMES) == len(set(MessageType) - signed_only_within) == len(EVERY_FRAME)


@pytest.mark.parametrize("name", FRAMES)
@given(data=st.data())
def test_a_frame_is_read_back_as_it_was_written(name, data):
    message = data.draw(FRAMES[name])
    (decoded,) = opened(encode_frame(message))
    assert decoded.unverified == message


@pytest.mark.parametrize("name", PAYLOADS)
@given(data=st.data())
def test_a_payload_is_read_back_as_it_was_written(name, data):
    message = data.draw(PAYLOADS[name])
    decoded = decode_payload(message_type(message), encode_payload(message), LIMITS)
    assert decoded.unverified == message


@pytest.mark.parametrize("name", FRAMES)
@given(data=st.data())
def test_a_changed_body_is_refused_or_has_a_meaning_of_its_own(name, data):
    """Nothing but InvalidMessage is raised, and two bodies never mean the same: canonical form."""
    message = data.draw(FRAMES[name])
    kind, body = encode_body(message)
    changed = data.draw(mutations(body))
    try:
        decoded = decode_body(kind, changed, LIMITS)
    except InvalidMessage:
        return
    assert encode_body(decoded.unverified) == (kind, changed)
    assert (decoded.unverified == message) == (changed == body)


@pytest.mark.parametrize("name", FRAMES)
@given(data=st.data())
def test_a_truncated_or_extended_body_is_refused(name, data):
    kind, body = encode_body(data.draw(FRAMES[name]))
    end = data.draw(st.integers(0, len(body) - 1))
    extra = data.draw(st.binary(min_size=1, max_size=8))
    for wrong in (body[:end], body + extra):
        with pytest.raises(InvalidMessage):
            decode_body(kind, wrong, LIMITS)


@given(data=st.data())
def test_a_changed_payload_is_refused_or_has_a_meaning_of_its_own(data):
    message = data.draw(st.one_of(list(PAYLOADS.values())))
    changed = data.draw(mutations(encode_payload(message)))
    try:
        decoded = decode_payload(message_type(message), changed, LIMITS)
    except InvalidMessage:
        return
    assert encode_payload(decoded.unverified) == changed


@given(kind=st.integers(0, 255), body=st.binary(max_size=200))
def test_noise_is_refused_with_no_other_error(kind, body):
    try:
        decode_body(kind, body, LIMITS)
    except InvalidMessage:
        return


@given(pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_a_stream_of_noise_is_refused_with_no_other_error(pieces):
    splitter = FrameSplitter(EVERY_FRAME)
    try:
        for piece in pieces:
            splitter.feed(piece)
    except InvalidMessage:
        return


@given(data=st.data())
def test_frames_come_out_the_same_however_the_stream_is_cut(data):
    messages = data.draw(st.lists(st.one_of(FRAMES["commit"], FRAMES["status"], FRAMES["proposal"]), max_size=6))
    stream = b"".join(map(encode_frame, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    splitter = FrameSplitter(LIMITS.peer)
    frames = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames += splitter.feed(stream[start:end])
    assert frames == [encode_body(m) for m in messages]
    assert splitter.buffered == 0


@st.composite
def mutations(draw, original):
    """`original` with a byte replaced, removed, inserted, or a slice copied elsewhere."""
    at = draw(st.integers(0, len(original) - 1))
    what = draw(st.sampled_from(["replace", "remove", "insert", "copy", "lead"]))
    # the bytes that begin a MessagePack value of another type or in a longer form
    byte = bytes([draw(st.integers(0, 255) | st.sampled_from([0x80, 0x90, 0xC0, 0xC2, 0xC4, 0xCA, 0xCF, 0xD0, 0xDC]))])
    if what == "replace":
        return original[:at] + byte + original[at + 1 :]
    if what == "remove":
        return original[:at] + original[at + 1 :]
    if what == "insert":
        return original[:at] + byte + original[at:]
    if what == "lead":
        return byte + original[1:]
    end = draw(st.integers(at, len(original)))
    return original[:at] + original[at:end] + original[at:]
