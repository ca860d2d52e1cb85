"""The gate lets a message through only if every signature that it depends on holds."""

from collections.abc import Callable
from typing import Any

import pytest

from bft.auth import Authenticator, KeySigner, VerifiedStatements
from bft.codec import MessageType, decode_body, encode_body, encode_payload, message_type
from bft.core.messages import (
    Authenticated,
    Batch,
    Batches,
    Bodies,
    CertifiedBatch,
    CheckpointCertificate,
    Commit,
    Evidence,
    FetchBatches,
    NewView,
    Prepare,
    PreparedCertificate,
    PrePrepare,
    Proposal,
    Request,
    RequestKind,
    StableCheckpoint,
    Status,
    ViewChange,
)
from bft.errors import InvalidMessage
from crypto.keys import PrivateKey
from crypto.pool import VerifierPool
from crypto.signatures import Domain
from tests.unit.auth_messages import (
    BATCH,
    CLIENT_KEY,
    COMMITS,
    DOMAIN,
    HEADER,
    KEYS,
    LIMITS,
    MESSAGES,
    NEW_HEADER,
    NEW_VIEW,
    OTHER_COMMIT,
    PREPARES,
    REPLICA_KEYS,
    SIGNERS,
    STABLE,
    VIEW_CHANGES,
    D,
    N,
    forged,
    gate,
    open_async_at,
    open_at,
    request,
)


class CountingPool(VerifierPool):
    """Counts the signatures that it is asked about."""

    def __init__(self):
        super().__init__(0)
        self.asked = 0

    async def verify_all_async(self, items):
        self.asked += len(items)
        return await super().verify_all_async(items)


def refusal(message, authenticator=None):
    with pytest.raises(InvalidMessage) as caught:
        open_at(authenticator or gate(), message)
    return str(caught.value)


class TestGoodMessages:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_what_its_signers_signed_is_let_through(self, name):
        assert open_at(gate(), MESSAGES[name]) == MESSAGES[name]

    @pytest.mark.parametrize("name", MESSAGES)
    @pytest.mark.parametrize("threads", [0, 2])
    async def test_it_is_let_through_by_the_pool_as_well(self, name, threads):
        pool = VerifierPool(threads)
        try:
            opened = await open_async_at(gate(pool=pool), MESSAGES[name])
        finally:
            pool.close()
        assert opened == MESSAGES[name]

    @pytest.mark.parametrize("message", [FetchBatches(3), Status(1, True, 2, 3, 4)])
    def test_what_nobody_signs_is_let_through(self, message):
        assert open_at(gate(), message) == message

    def test_a_batch_that_does_not_match_its_header_is_for_the_core_to_reject(self):
        proposal = Proposal(HEADER, Batch(1, BATCH.requests))
        assert proposal.batch.digest != HEADER.message.digest
        assert open_at(gate(), proposal) == proposal


NESTED_FORGERIES: dict[str, Callable[[], Any]] = {
    "header of a prepare": lambda: SIGNERS[0].sign(Prepare(forged(HEADER), 0)),
    "header of a proposal": lambda: Proposal(forged(HEADER), BATCH),
    "request of a proposal": lambda: Proposal(HEADER, Batch(1, (*BATCH.requests, forged(request(9))))),
    "commit of a certified batch": lambda: Batches((CertifiedBatch(BATCH, (*COMMITS[:2], forged(COMMITS[2]))),)),
    "first of evidence": lambda: Evidence(forged(COMMITS[0]), OTHER_COMMIT),
    "second of evidence": lambda: Evidence(COMMITS[0], forged(OTHER_COMMIT)),
    "vote of a stable checkpoint": lambda: StableCheckpoint(
        CheckpointCertificate((*STABLE.checkpoints[:2], forged(STABLE.checkpoints[2])))
    ),
    "checkpoint of a view-change": lambda: SIGNERS[0].sign(
        ViewChange(6, CheckpointCertificate((forged(STABLE.checkpoints[0]), *STABLE.checkpoints[1:])), (), 0)
    ),
    "header of a prepared certificate": lambda: SIGNERS[0].sign(
        ViewChange(6, STABLE, (PreparedCertificate(forged(HEADER), PREPARES),), 0)
    ),
    "prepare of a prepared certificate": lambda: SIGNERS[0].sign(
        ViewChange(6, STABLE, (PreparedCertificate(HEADER, (PREPARES[0], forged(PREPARES[1]))),), 0)
    ),
    "header within a prepare of a prepared certificate": lambda: SIGNERS[0].sign(
        ViewChange(
            6,
            STABLE,
            (PreparedCertificate(HEADER, (PREPARES[0], SIGNERS[2].sign(Prepare(forged(HEADER), 2)))),),
            0,
        )
    ),
    "view-change of a new-view": lambda: SIGNERS[2].sign(
        NewView(6, (*VIEW_CHANGES[:2], forged(VIEW_CHANGES[2])), (NEW_HEADER,), 2)
    ),
    "prepare within a new-view": lambda: SIGNERS[2].sign(
        NewView(
            6,
            (
                *VIEW_CHANGES[:2],
                SIGNERS[3].sign(
                    ViewChange(6, STABLE, (PreparedCertificate(HEADER, (forged(PREPARES[0]), *PREPARES[1:])),), 3)
                ),
            ),
            (NEW_HEADER,),
            2,
        )
    ),
    "header of a new-view": lambda: SIGNERS[2].sign(NewView(6, VIEW_CHANGES, (forged(NEW_HEADER),), 2)),
}


class TestBodies:
    """What is proven by its digest needs no signature of its own verified."""

    def test_the_requests_of_a_body_are_not_verified(self):
        bodies = Bodies((BATCH, Batch(1, (forged(request(9)),))))
        assert open_at(gate(), bodies) == bodies

    def test_the_digest_of_a_body_tells_a_forged_request(self):
        """The core takes a body for the digest that a quorum prepared: this is another."""
        first, *rest = BATCH.requests
        opened = open_at(gate(), Bodies((Batch(BATCH.time_ns, (forged(first), *rest)),)))
        assert isinstance(opened, Bodies)
        assert opened.batches[0].digest != BATCH.digest

    def test_a_forged_request_in_a_certified_batch_is_refused(self):
        """The COMMITs are for the batch's digest, which covers the requests' signatures."""
        first, *rest = BATCH.requests
        batch = Batch(BATCH.time_ns, (forged(first), *rest))
        assert "without a quorum of COMMITs" in refusal(Batches((CertifiedBatch(batch, COMMITS),)))


class TestForgeries:
    @pytest.mark.parametrize("name", [n for n, m in MESSAGES.items() if isinstance(m, Authenticated)])
    def test_a_forged_envelope_is_refused(self, name):
        assert "did not sign" in refusal(forged(MESSAGES[name]))

    @pytest.mark.parametrize("name", NESTED_FORGERIES)
    def test_a_forged_signature_inside_is_refused(self, name):
        assert "did not sign" in refusal(NESTED_FORGERIES[name]())

    @pytest.mark.parametrize("name", NESTED_FORGERIES)
    def test_it_is_refused_when_everything_else_is_known_already(self, name):
        authenticator = gate()
        for message in MESSAGES.values():
            open_at(authenticator, message)
        assert "did not sign" in refusal(NESTED_FORGERIES[name](), authenticator)

    @pytest.mark.parametrize("name", NESTED_FORGERIES)
    @pytest.mark.parametrize("threads", [0, 2])
    async def test_the_pool_refuses_it_as_well(self, name, threads):
        pool = VerifierPool(threads)
        try:
            with pytest.raises(InvalidMessage):
                await open_async_at(gate(pool=pool), NESTED_FORGERIES[name]())
        finally:
            pool.close()

    async def test_a_refused_message_leaves_nothing_of_it_known(self):
        verified = VerifiedStatements()
        authenticator = gate(pool=CountingPool(), verified=verified)
        forgery = NESTED_FORGERIES["view-change of a new-view"]()
        with pytest.raises(InvalidMessage):
            await open_async_at(authenticator, forgery)
        assert len(verified) == 0

    def test_a_refused_message_is_refused_every_time(self):
        authenticator = gate()
        for _ in range(3):
            assert "did not sign" in refusal(forged(COMMITS[0]), authenticator)

    def test_another_replicas_signature_is_refused(self):
        vote = Commit(5, 9, D, 2)
        payload = encode_payload(vote)
        signature = KEYS[3].sign(DOMAIN.signing_input(MessageType.COMMIT, payload))
        assert "replica 2 did not sign" in refusal(Authenticated(vote, payload, signature))

    def test_a_header_signed_by_a_backup_in_the_primarys_name_is_refused(self):
        header = PrePrepare(5, 9, D, 1)  # replica 1 is the primary of view 5
        payload = encode_payload(header)
        signature = KEYS[2].sign(DOMAIN.signing_input(MessageType.PRE_PREPARE, payload))
        assert "did not sign" in refusal(SIGNERS[2].sign(Prepare(Authenticated(header, payload, signature), 2)))

    def test_a_header_signed_by_a_backup_in_its_own_name_is_refused(self):
        header = SIGNERS[2].sign(PrePrepare(5, 9, D, 2))
        assert "not the primary" in refusal(SIGNERS[2].sign(Prepare(header, 2)))


class TestDomains:
    @pytest.mark.parametrize("other", [Domain("demo-2", 7), Domain("demo-1", 8)], ids=["cluster", "epoch"])
    @pytest.mark.parametrize("name", [name for name in MESSAGES if name != "bodies"])  # which bear no signature of ours
    def test_what_was_signed_elsewhere_is_refused(self, name, other):
        assert "did not sign" in refusal(MESSAGES[name], gate(other))

    def test_a_signature_for_one_type_does_not_hold_for_another(self):
        """A header and a COMMIT of the same numbers have the same payload: the type alone keeps them apart."""
        header = SIGNERS[1].sign(PrePrepare(5, 9, D, 1))
        commit = Commit(5, 9, D, 1)
        assert encode_payload(commit) == header.payload
        authenticator = gate()
        open_at(authenticator, Proposal(header, Batch(0, ())))  # so that the header is known
        assert "did not sign" in refusal(Authenticated(commit, header.payload, header.signature), authenticator)


class TestClientKeys:
    @pytest.mark.parametrize(
        "raw",
        [
            bytes(32),  # order 4
            b"\x01" + bytes(31),  # order 1
            (2**255 - 20).to_bytes(32, "little"),  # order 2
            (2**255 - 18).to_bytes(32, "little"),  # a second encoding of order 1
            b"\xff" * 32,
        ],
        ids=["order 4", "order 1", "order 2", "not canonical", "no point"],
    )
    def test_a_key_that_many_signatures_fit_is_refused(self, raw):
        message = Request(raw, 1, 1, 0, RequestKind.APPLICATION, (b"put",))
        statement = Authenticated(message, encode_payload(message), b"\x01" + bytes(63))
        assert "client key" in refusal(statement)
        assert "client key" in refusal(Proposal(HEADER, Batch(1, (statement,))))

    def test_a_request_on_its_clients_link_is_let_through(self):
        kind, body = encode_body(request())
        assert kind is MessageType.REQUEST
        assert gate().open_request(CLIENT_KEY.public.raw, body) == request()

    async def test_a_request_on_its_clients_link_is_let_through_by_the_pool(self):
        _, body = encode_body(request())
        assert await gate(pool=CountingPool()).open_request_async(CLIENT_KEY.public.raw, body) == request()

    def test_a_request_of_another_client_than_the_links_is_refused(self):
        _, body = encode_body(request())
        with pytest.raises(InvalidMessage, match="another client"):
            gate().open_request(KEYS[0].public.raw, body)

    def test_a_request_that_another_client_signed_is_refused(self):
        other = PrivateKey.from_seed(b"d" * 32)
        _, body = encode_body(request(signer=KeySigner(other, DOMAIN)))
        with pytest.raises(InvalidMessage, match="its client did not sign"):
            gate().open_request(CLIENT_KEY.public.raw, body)


class TestLinks:
    @pytest.mark.parametrize("sender", [-1, N])
    def test_a_sender_that_does_not_exist_is_refused(self, sender):
        with pytest.raises(InvalidMessage, match="no replica"):
            gate().open_peer(sender, *encode_body(COMMITS[0]))

    @pytest.mark.parametrize("kind", [2, 8, 32, 33, 48, 49, 50, 99])
    def test_what_replicas_do_not_say_to_each_other_is_refused(self, kind):
        with pytest.raises(InvalidMessage, match="type"):
            gate().open_peer(0, kind, b"\x90")

    def test_a_statement_may_come_on_another_replicas_link(self):
        assert open_at(gate(), COMMITS[0], sender=3) == COMMITS[0]


class TestVotes:
    def test_a_wanted_vote_is_let_through(self):
        assert gate().open_vote(0, *encode_body(COMMITS[0]), lambda vote: False) == COMMITS[0]

    def test_a_wanted_vote_is_verified(self):
        with pytest.raises(InvalidMessage, match="did not sign"):
            gate().open_vote(0, *encode_body(forged(COMMITS[0])), lambda vote: False)

    def test_a_redundant_vote_is_neither_verified_nor_let_through(self):
        verified = VerifiedStatements()
        assert gate(verified=verified).open_vote(0, *encode_body(forged(PREPARES[0])), lambda vote: True) is None
        assert len(verified) == 0

    def test_what_is_no_vote_is_refused(self):
        with pytest.raises(InvalidMessage, match="no vote"):
            gate().open_vote(0, *encode_body(STABLE.checkpoints[0]), lambda vote: True)


class TestWhatIsKnown:
    async def test_nothing_is_verified_twice(self):
        pool = CountingPool()
        authenticator = gate(pool=pool)
        for _ in range(3):
            await open_async_at(authenticator, NEW_VIEW)
        distinct = 1 + len(VIEW_CHANGES) + 1 + len(STABLE.checkpoints) + 1 + len(PREPARES)
        assert pool.asked == distinct

    def test_a_known_header_leaves_one_signature_of_a_prepare(self):
        authenticator = gate()
        open_at(authenticator, PREPARES[0])
        verified_before = len(authenticator._verified)
        open_at(authenticator, PREPARES[1])
        assert (verified_before, len(authenticator._verified)) == (2, 3)

    def test_what_the_replica_signed_itself_is_known(self):
        verified = VerifiedStatements()
        own = KeySigner(KEYS[0], DOMAIN, verified).sign(COMMITS[0].message)
        claims = decode_body(*encode_body(own), LIMITS).claims
        assert len(gate().plan(claims).items) == 1
        assert gate(verified=verified).plan(claims).items == []

    def test_the_oldest_is_forgotten_and_use_keeps_young(self):
        verified = VerifiedStatements(most=3)
        a, b, c, d = (bytes([i]) for i in range(4))
        for key in (a, b, c):
            verified.add(key)
        assert verified.knows(a)
        verified.add(d)
        assert [verified.knows(key) for key in (a, b, c, d)] == [True, False, True, True]

    def test_memory_is_bounded(self):
        verified = VerifiedStatements(most=10)
        authenticator = gate(verified=verified)
        for number in range(1, 30):
            open_at(authenticator, request(number))
            assert len(verified) == min(number, 10)


class TestSigner:
    @pytest.mark.parametrize("name", [n for n, m in MESSAGES.items() if isinstance(m, Authenticated)])
    def test_a_statement_keeps_the_bytes_that_were_signed(self, name):
        statement = MESSAGES[name]
        kind = message_type(statement.message)
        assert statement.payload == encode_payload(statement.message)
        key = CLIENT_KEY if kind is MessageType.REQUEST else KEYS[statement.message.replica]
        assert statement.signature == key.sign(DOMAIN.signing_input(kind, statement.payload))


def test_a_gate_needs_the_key_of_every_replica():
    with pytest.raises(ValueError, match="3 keys for 4 replicas"):
        Authenticator(DOMAIN, REPLICA_KEYS[:3], LIMITS)
