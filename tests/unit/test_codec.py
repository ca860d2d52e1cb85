"""The reader takes the one canonical encoding of a well-shaped message and nothing else."""

import tracemalloc
from dataclasses import replace

import msgpack
import pytest

from bft.codec import (
    FrameSplitter,
    Hello,
    Limits,
    MessageType,
    Prove,
    Query,
    Watch,
    decode_body,
    decode_payload,
    encode_body,
    encode_frame,
    encode_payload,
)
from bft.codec.limits import PROVE_KEY, WATCH_OPERATION
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
    FetchBodies,
    FetchState,
    NewView,
    Outcome,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Refusal,
    Reply,
    ReplyStable,
    ReplyStatus,
    Request,
    RequestKind,
    StateChunk,
    Status,
    ViewChange,
)
from bft.core.parameters import Parameters
from bft.errors import InvalidMessage
from crypto.certificates import Role

N = 4
D = bytes(range(32))
PARAMETERS = Parameters(
    n=N,
    checkpoint_interval=4,
    window=8,
    batch_requests_max=16,
    operations_max=16,
    request_bytes_max=1000,
    batch_bytes_max=1500,
    transfer_nodes_max=16,
)
LIMITS = Limits.of(PARAMETERS)


def signed(message, signature=bytes(64)):
    return Authenticated(message, encode_payload(message), signature)


REQUEST = Request(D, 1, 2, 3, RequestKind.APPLICATION, (b"op",))
COMMIT = Commit(5, 300, D, 1)
HEADER = signed(PrePrepare(5, 300, D, 1))
COMMIT_FIELDS = (5, 300, D, 1)


def refusal(kind, payload):
    with pytest.raises(InvalidMessage) as caught:
        decode_payload(kind, payload, LIMITS)
    return str(caught.value)


def body_refusal(message_or_kind, body=None):
    kind, body = encode_body(message_or_kind) if body is None else (message_or_kind, body)
    with pytest.raises(InvalidMessage) as caught:
        decode_body(kind, body, LIMITS)
    return str(caught.value)


class TestCanonicalForm:
    CANONICAL = encode_payload(COMMIT)

    def test_the_shortest_form_is_read(self):
        assert decode_payload(MessageType.COMMIT, self.CANONICAL, LIMITS).unverified == COMMIT

    @pytest.mark.parametrize(
        ("short", "long"),
        [
            (b"\x94\x05", b"\x94\xcc\x05"),  # 5 as uint8
            (b"\x94\x05", b"\x94\xcd\x00\x05"),  # 5 as uint16
            (b"\x94\x05", b"\x94\xd0\x05"),  # 5 as int8
            (b"\xcd\x01\x2c", b"\xce\x00\x00\x01\x2c"),  # 300 as uint32
            (b"\xcd\x01\x2c", b"\xd1\x01\x2c"),  # 300 as int16
            (b"\xc4\x20", b"\xc5\x00\x20"),  # bin8 as bin16
            (b"\xc4\x20", b"\xc6\x00\x00\x00\x20"),  # bin8 as bin32
            (b"\x94", b"\xdc\x00\x04"),  # fixarray as array16
            (b"\x94", b"\xdd\x00\x00\x00\x04"),  # fixarray as array32
        ],
    )
    def test_a_longer_form_of_the_same_value_is_refused(self, short, long):
        assert short in self.CANONICAL
        longer = self.CANONICAL.replace(short, long, 1)
        assert msgpack.unpackb(longer, use_list=False) == COMMIT_FIELDS
        assert "canonical" in refusal(MessageType.COMMIT, longer)

    def test_a_longer_form_inside_an_unsigned_frame_is_refused(self):
        assert "canonical" in body_refusal(MessageType.FETCH_BATCHES, b"\x91\xcc\x05")

    def test_text_in_a_longer_form_is_refused(self):
        assert "canonical" in body_refusal(MessageType.REFUSAL, b"\x93\x01\x02\xd9\x01x")


class TestTypes:
    @pytest.mark.parametrize("wrong", [True, False, -1, None, 1.0, "5", b"5", (5,)], ids=repr)
    def test_only_an_unsigned_integer_is_an_integer(self, wrong):
        payload = msgpack.packb((wrong, *COMMIT_FIELDS[1:]))
        assert "view" in refusal(MessageType.COMMIT, payload)

    @pytest.mark.parametrize("wrong", [0, 1, None, b"", "true", ()], ids=repr)
    def test_only_a_boolean_is_a_boolean(self, wrong):
        assert "active" in body_refusal(MessageType.STATUS, msgpack.packb((1, wrong, 2, 3, 4, ())))

    @pytest.mark.parametrize("wrong", [D[:31], D + b"\0", "x" * 32, 7, None, ()], ids=repr)
    def test_only_32_bytes_are_a_digest(self, wrong):
        assert refusal(MessageType.COMMIT, msgpack.packb((5, 300, wrong, 1)))

    @pytest.mark.parametrize("wrong", [D[:31], D + b"\0", "x" * 32], ids=repr)
    def test_only_32_bytes_are_a_client_key(self, wrong):
        assert "client key" in refusal(MessageType.REQUEST, msgpack.packb((wrong, 1, 2, 3, 0, (b"op",))))

    @pytest.mark.parametrize("wrong", [bytes(63), bytes(65), "x" * 64, None], ids=repr)
    def test_only_64_bytes_are_a_signature(self, wrong):
        assert "signature" in body_refusal(MessageType.COMMIT, msgpack.packb((encode_payload(COMMIT), wrong)))

    @pytest.mark.parametrize("wrong", [b"text", 5, None], ids=repr)
    def test_only_text_is_text(self, wrong):
        assert "not text" in body_refusal(MessageType.REFUSAL, msgpack.packb((1, 2, wrong)))

    def test_text_that_is_not_utf_8_is_refused(self):
        assert body_refusal(MessageType.REFUSAL, b"\x93\x01\x02\xa1\xff")

    @pytest.mark.parametrize("operations", [("text",), (1,), b"op", ((b"op",),)], ids=repr)
    def test_operations_are_bytes(self, operations):
        assert "operations" in refusal(MessageType.REQUEST, msgpack.packb((D, 1, 2, 3, 0, operations)))

    @pytest.mark.parametrize("kind", [2, 255, True])
    def test_an_unknown_kind_of_request_is_refused(self, kind):
        assert "kind" in refusal(MessageType.REQUEST, msgpack.packb((D, 1, 2, 3, kind, (b"op",))))

    @pytest.mark.parametrize(
        "value",
        [
            b"\x80",  # an empty map
            b"\x81\x01\x02",
            b"\xc7\x00\x05",  # an empty extension
            b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
            b"\xc1",  # never used
            b"\xc0",  # nil
            b"\xcb" + bytes(8),  # a float
            b"",
        ],
    )
    def test_what_is_no_array_is_refused(self, value):
        assert body_refusal(MessageType.FETCH_BATCHES, value)
        assert body_refusal(MessageType.FETCH_BATCHES, b"\x91" + value)

    @pytest.mark.parametrize("fields", [(), COMMIT_FIELDS[:3], (*COMMIT_FIELDS, 0)], ids=len)
    def test_a_missing_or_additional_field_is_refused(self, fields):
        assert refusal(MessageType.COMMIT, msgpack.packb(fields))

    def test_nesting_without_end_is_refused(self):
        assert body_refusal(MessageType.PROPOSAL, b"\x91" * 100_000)

    @pytest.mark.parametrize("kind", [0, 2, 8, 9, 15, 28, 34, 255])
    def test_an_unknown_type_of_frame_is_refused(self, kind):
        assert "type" in body_refusal(kind, b"\x92\xc4\x00\xc4\x00")


class TestAllocation:
    @pytest.mark.parametrize(
        "body",
        [
            b"\x91\xdd\xff\xff\xff\xff",  # array of 2**32 - 1
            b"\x91\xdd\x00\xff\xff\xff",
            b"\x91\xdc\xff\xff",
            b"\x91\xc6\xff\xff\xff\xff",  # bin of 4 GiB
            b"\x91\xdb\xff\xff\xff\xff",  # str of 4 GiB
            b"\x91\xdf\xff\xff\xff\xff",  # map
            b"\x91\xc9\xff\xff\xff\xff\x05",  # extension
        ],
    )
    def test_nothing_is_allocated_for_a_length_that_is_only_claimed(self, body):
        tracemalloc.start()
        try:
            body_refusal(MessageType.BATCHES, body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 64 * 1024

    @pytest.mark.parametrize(
        "body",
        [
            b"\x91\xdd" + (1 << 20).to_bytes(4, "big") + bytes(1 << 20),  # an array of 2**20 zeros, all there
            b"\x91\xdf"
            + (1 << 14).to_bytes(4, "big")
            + b"".join(b"\xc4\x02%c%c\0" % divmod(i, 256) for i in range(1 << 14)),
        ],
        ids=["array", "map"],
    )
    def test_nothing_is_allocated_for_more_items_than_allowed(self, body):
        tracemalloc.start()
        try:
            body_refusal(MessageType.BATCHES, body)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 64 * 1024


class TestWhoSigns:
    @pytest.mark.parametrize("message", [COMMIT, Checkpoint(5, D, 1), ViewChange(5, CheckpointCertificate(()), (), 1)])
    def test_a_signer_that_does_not_exist_is_refused(self, message):
        kind, _ = encode_body(signed(message))
        assert "no replica 4" in refusal(kind, encode_payload(replace(message, replica=N)))

    def test_a_header_of_another_replica_than_the_primary_is_refused(self):
        assert "not the primary" in refusal(MessageType.PRE_PREPARE, encode_payload(PrePrepare(5, 300, D, 2)))

    def test_such_a_header_inside_a_prepare_is_refused(self):
        header = signed(PrePrepare(5, 300, D, 2))
        assert "not the primary" in body_refusal(signed(Prepare(header, 3)))

    def test_a_new_view_of_another_replica_than_the_primary_is_refused(self):
        assert "not the primary" in refusal(MessageType.NEW_VIEW, encode_payload(NewView(5, (), (), 2)))

    def test_evidence_about_two_replicas_is_refused(self):
        evidence = Evidence(signed(COMMIT), signed(replace(COMMIT, replica=2)))
        assert "different signers" in body_refusal(evidence)

    @pytest.mark.parametrize("kind", [1, 7, 8, 0, 16, 99])
    def test_evidence_about_what_nobody_can_contradict_is_refused(self, kind):
        statement = (encode_payload(COMMIT), bytes(64))
        assert "evidence" in body_refusal(MessageType.EVIDENCE, msgpack.packb((kind, statement, kind, statement)))
        assert "evidence" in body_refusal(MessageType.EVIDENCE, msgpack.packb((4, statement, kind, statement)))

    @pytest.mark.parametrize("accused", [(N,), (1, 0), (1, 1), tuple(range(N + 1)), ("1",), (2**64 - 1,)])
    def test_who_is_accused_is_named_once_and_in_order(self, accused):
        assert body_refusal(MessageType.STATUS, msgpack.packb((1, True, 2, 3, 4, accused)))


class TestCounts:
    """Each limit: the most that is allowed passes, one more does not."""

    @staticmethod
    def check(make, most):
        kind, body = encode_body(make(most))
        decode_body(kind, body, LIMITS)
        assert body_refusal(make(most + 1))

    def test_operations_of_a_request(self):
        self.check(lambda count: signed(replace(REQUEST, operations=(b"",) * count)), PARAMETERS.operations_max)

    def test_a_request_without_operations_is_refused(self):
        assert "operations" in body_refusal(signed(replace(REQUEST, operations=())))

    def test_bytes_of_a_request(self):
        around = len(encode_payload(replace(REQUEST, operations=(bytes(900),)))) - 900
        most = PARAMETERS.request_bytes_max - around
        self.check(lambda size: signed(replace(REQUEST, operations=(bytes(size),))), most)

    def test_requests_of_a_batch(self):
        self.check(lambda count: Proposal(HEADER, Batch(1, (signed(REQUEST),) * count)), PARAMETERS.batch_requests_max)

    def test_bytes_of_a_batch(self):
        first = signed(replace(REQUEST, operations=(bytes(600),)))
        around = len(first.payload) - 600
        rest = PARAMETERS.batch_bytes_max - len(first.payload) - around
        assert rest > 255  # where the head of the bytes has the same length as around the first
        self.check(
            lambda size: Proposal(HEADER, Batch(1, (first, signed(replace(REQUEST, operations=(bytes(size),)))))), rest
        )

    def test_a_single_request_may_be_larger_than_a_batch(self):
        limits = Limits.of(replace(PARAMETERS, batch_bytes_max=10))
        kind, body = encode_body(Proposal(HEADER, Batch(1, (signed(REQUEST),))))
        assert decode_body(kind, body, limits).unverified.batch.size > 10

    def test_commits_of_a_certified_batch(self):
        self.check(lambda count: Batches((CertifiedBatch(Batch(0, ()), (signed(COMMIT),) * count),)), N)

    def test_a_certified_batch_without_commits_is_refused(self):
        assert "commits" in body_refusal(Batches((CertifiedBatch(Batch(0, ()), ()),)))

    def test_batches_of_an_answer(self):
        certified = CertifiedBatch(Batch(0, ()), (signed(COMMIT),))
        self.check(lambda count: Batches((certified,) * count), PARAMETERS.window)

    def test_checkpoints_of_a_certificate(self):
        checkpoint = signed(Checkpoint(5, D, 1))
        self.check(lambda count: signed(ViewChange(1, CheckpointCertificate((checkpoint,) * count), (), 1)), N)

    def test_prepares_of_a_certificate(self):
        prepare = signed(Prepare(HEADER, 2))
        self.check(
            lambda count: signed(
                ViewChange(9, CheckpointCertificate(()), (PreparedCertificate(HEADER, (prepare,) * count),), 1)
            ),
            N,
        )

    def test_prepared_certificates_of_a_view_change(self):
        certificate = PreparedCertificate(HEADER, ())
        self.check(
            lambda count: signed(ViewChange(9, CheckpointCertificate(()), (certificate,) * count, 1)),
            PARAMETERS.window,
        )

    def test_view_changes_of_a_new_view(self):
        change = signed(ViewChange(9, CheckpointCertificate(()), (), 1))
        self.check(lambda count: signed(NewView(9, (change,) * count, (), 1)), N)

    def test_headers_of_a_new_view(self):
        self.check(lambda count: signed(NewView(9, (), (HEADER,) * count, 1)), PARAMETERS.window)

    def test_digests_asked_for(self):
        self.check(lambda count: FetchBodies((D,) * count), PARAMETERS.window)

    def test_paths_asked_for(self):
        self.check(lambda count: FetchState(1, (b"\x0f",) * count), PARAMETERS.transfer_nodes_max)

    def test_nodes_of_an_answer(self):
        self.check(lambda count: StateChunk(1, ((b"\x0f", b"node"),) * count), PARAMETERS.transfer_nodes_max)

    def test_votes_returned_to_who_asks(self):
        vote = signed(Commit(1, 2, D, 1))
        self.check(
            lambda count: ReplyStable(1, 2, CheckpointCertificate(()), (vote,) * count, ()), 4 * PARAMETERS.window
        )

    def test_view_changes_returned_to_who_asks(self):
        change = signed(ViewChange(9, CheckpointCertificate(()), (), 1))
        self.check(lambda count: ReplyStable(1, 2, CheckpointCertificate(()), (), (change,) * count), 1)

    def test_nibbles_of_a_path(self):
        self.check(lambda count: FetchState(1, (b"\x0f" * count,)), 64)

    def test_values_of_a_nibble(self):
        self.check(lambda value: FetchState(1, (bytes((value,)),)), 15)

    def test_letters_of_a_reason(self):
        self.check(lambda count: Refusal(1, 2, "x" * count), 256)

    def test_bytes_of_a_query(self):
        self.check(lambda size: Query(1, bytes(size)), PARAMETERS.request_bytes_max)

    def test_watch(self):
        self.check(lambda size: Watch(1, 2, 3, bytes(size)), WATCH_OPERATION)

    def test_bytes_of_a_key_to_prove(self):
        self.check(lambda size: Prove(1, bytes(size)), PROVE_KEY)


@pytest.mark.parametrize("field", ["cluster", "name"])
@pytest.mark.parametrize("wrong", ["", "a b", "a/b", "..", "x" * 65, "é"])
def test_a_hello_with_an_impossible_name_is_refused(field, wrong):
    assert body_refusal(replace(Hello("demo-1", 0, Role.REPLICA, "0"), **{field: wrong}))


def test_a_hello_in_an_unknown_role_is_refused():
    assert body_refusal(MessageType.HELLO, msgpack.packb(("demo-1", 0, "root", "0")))


def test_a_statement_that_occurs_often_is_claimed_once():
    prepares = tuple(signed(Prepare(HEADER, i)) for i in (0, 2, 3))
    change = signed(ViewChange(9, CheckpointCertificate(()), (PreparedCertificate(HEADER, prepares),), 2))
    kind, body = encode_body(change)
    claims = decode_body(kind, body, LIMITS).claims
    assert [c.statement for c in claims] == [change, HEADER, *prepares]


class TestProvenRequests:
    """A quorum vouches for the digest of a body or certified batch, and so for its requests: they are no claims."""

    BATCH = Batch(1, (signed(REQUEST), signed(replace(REQUEST, number=3))))
    CARRIERS = (Bodies((BATCH,)), Batches((CertifiedBatch(BATCH, (signed(COMMIT),)),)))

    @staticmethod
    def requests_claimed(message):
        kind, body = encode_body(message)
        return [c.statement for c in decode_body(kind, body, LIMITS).claims if c.kind is MessageType.REQUEST]

    def test_the_requests_of_a_proposal_are_claims(self):
        assert self.requests_claimed(Proposal(HEADER, self.BATCH)) == list(self.BATCH.requests)

    @pytest.mark.parametrize("message", CARRIERS)
    def test_the_requests_of_bodies_and_batches_are_none(self, message):
        assert self.requests_claimed(message) == []

    def test_the_commits_of_a_certified_batch_are_claims(self):
        kind, body = encode_body(self.CARRIERS[1])
        assert [c.statement for c in decode_body(kind, body, LIMITS).claims] == [signed(COMMIT)]

    @pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65)])
    def test_only_64_bytes_are_a_signature_here_too(self, signature):
        batch = Batch(1, (signed(REQUEST, signature),))
        assert "signature of 64 bytes" in body_refusal(Bodies((batch,)))

    def test_a_malformed_request_is_refused_here_too(self):
        batch = Batch(1, (signed(replace(REQUEST, operations=())),))
        assert "operations" in body_refusal(Bodies((batch,)))

    def test_requests_of_a_body(self):
        TestCounts.check(lambda count: Bodies((Batch(1, (signed(REQUEST),) * count),)), PARAMETERS.batch_requests_max)

    def test_bodies_of_an_answer(self):
        TestCounts.check(lambda count: Bodies((self.BATCH,) * count), PARAMETERS.window)


class TestResults:
    """An outcome has one result an operation, or fewer: `result_bytes_max` was reached."""

    @staticmethod
    def reply(results):
        outcome = Outcome(D, 1, 2, D, 300, ReplyStatus.EXECUTED, (b"r",) * results)
        return Reply(outcome, signed(BatchResult(5, 300, D, 1)), 0, 1, ())

    def test_an_outcome_may_have_no_result(self):
        kind, body = encode_body(self.reply(0))
        assert decode_body(kind, body, LIMITS).unverified == self.reply(0)

    def test_results_of_an_outcome(self):
        TestCounts.check(self.reply, PARAMETERS.operations_max)

    def test_a_status_that_does_not_exist_is_refused(self):
        kind, body = encode_body(self.reply(1))
        status = b"\xcd\x01\x2c\x00\x91"  # 300, 0 and the results
        assert body.count(status) == 1
        assert "status" in body_refusal(kind, body.replace(status, b"\xcd\x01\x2c\x05\x91"))


@pytest.mark.parametrize("n", [1, 4, 7, 13])
def test_the_largest_new_view_fits_its_frame_and_fills_most_of_it(n):
    """A frame's bound is neither too small for a correct replica nor much larger than needed."""
    parameters = Parameters(n=n)
    limits = Limits.of(parameters)
    top = 2**64 - 1
    view = top - (top % n)
    header = signed(PrePrepare(view, top, D, 0))
    prepares = tuple(signed(Prepare(header, i)) for i in range(n))
    checkpoints = tuple(signed(Checkpoint(top, D, i)) for i in range(n))
    prepared = (PreparedCertificate(header, prepares),) * parameters.window
    changes = tuple(signed(ViewChange(top, CheckpointCertificate(checkpoints), prepared, i)) for i in range(n))
    new_view = signed(NewView(view, changes, (header,) * parameters.window, 0))
    ((kind, body),) = FrameSplitter(limits.peer).feed(encode_frame(new_view))
    assert decode_body(kind, body, limits).unverified == new_view
    assert 0.8 * limits.peer[kind] < len(body) < 16 << 20


def test_a_status_is_as_long_as_its_bound_allows():
    top = 2**64 - 1
    frame = encode_frame(Status(top, True, top, top, top, tuple(range(N))))
    assert len(frame) - 4 == LIMITS.peer[MessageType.STATUS]


def nested_arrays(size: int) -> bytes:
    """Arrays of two arrays, in about as many bytes."""
    tree = b"\x90"
    while 2 * len(tree) < size:
        tree = b"\x92" + tree + tree
    return tree


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (MessageType.REQUEST, b"\x92" + nested_arrays(10_000) + b"\xc4\x00"),
        (MessageType.REPLY, b"\x95" + nested_arrays(10_000) + b"\x90" * 4),
    ],
)
def test_more_arrays_than_any_message_of_the_type_has_are_refused_while_they_are_read(kind, body):
    with pytest.raises(InvalidMessage, match="too many arrays"):
        decode_body(kind, body, Limits.of(PARAMETERS))
