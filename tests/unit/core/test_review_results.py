"""How large a client can make results, the reply cache and the replicated state."""

from typing import Any

import msgpack

from bft.codec import Limits, MessageType
from bft.core.effects import SendReply
from bft.core.messages import Authenticated, Batch, Reply, Request, RequestKind
from bft.statemachine.kv import encode_get, encode_put
from bft.testing.symbolic import symbolic_certificate
from tests.paper.stage import CLIENT, Stage

SESSION = 1 << 16


def signed(session: int, number: int, kind: RequestKind, *operations: bytes) -> Authenticated[Request]:
    request = Request(CLIENT, session, number, 0, kind, operations)
    return Authenticated(request, msgpack.packb((session, number, *operations)), bytes(64))


def order(stage: Stage, seq: int, *requests: Authenticated[Request]) -> list[Any]:
    """Everybody agrees on a batch of these."""
    batch = Batch(stage.now.wall_ns, requests)
    happened = stage.receive(0, stage.proposal(seq=seq, batch=batch))
    for replica in (2, 3):
        happened += stage.receive(replica, stage.prepare(replica, seq=seq, digest=batch.digest))
    for replica in (0, 2, 3):
        happened += stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))
    return happened


def results_of_a_bundle_of_gets(count: int) -> tuple[Stage, list[Any]]:
    """A bundle of `count` gets of one value of a megabyte, as any client may send: a few kilobytes long."""
    stage = Stage(n=4, me=1, checkpoint_interval=3, pipeline_depth=4)
    order(stage, 1, signed(0, 1, RequestKind.REGISTER, symbolic_certificate(CLIENT)))
    order(stage, 2, signed(SESSION, 1, RequestKind.APPLICATION, encode_put(b"k", bytes(1_000_000))))
    happened = order(stage, 3, signed(SESSION, 2, RequestKind.APPLICATION, *[encode_get(b"k")] * count))
    return stage, happened


def test_the_results_of_one_bundle_are_bounded() -> None:
    """1024 operations times 2 MiB a result would be 2 GiB of memory at every replica, for one request of 7 KiB."""
    _, happened = results_of_a_bundle_of_gets(64)
    (reply,) = [e.reply for e in happened if isinstance(e, SendReply) and isinstance(e.reply, Reply)]
    assert sum(len(result) for result in reply.outcome.results) <= 4 << 20


def test_every_record_of_the_state_fits_into_a_state_chunk() -> None:
    """Else a laggard can never transfer the state: one client's cached results block it for ever."""
    stage, _ = results_of_a_bundle_of_gets(8)
    limit = Limits.of(stage.parameters).peer[MessageType.STATE_CHUNK]
    records = stage.replica._application.range_system(b"")
    assert max(len(value) for _, value in records) <= limit


def test_what_a_batch_with_too_large_results_leaves_out_leads_the_next_one() -> None:
    """One client's large results must not cost another's request its place."""
    stage = Stage(n=4, me=1, checkpoint_interval=64, pipeline_depth=4, batch_result_bytes_max=1000)
    order(stage, 1, signed(0, 1, RequestKind.REGISTER, symbolic_certificate(CLIENT)))
    order(stage, 2, signed(SESSION, 1, RequestKind.APPLICATION, encode_put(b"k", bytes(2000))))
    gets = [signed(SESSION, number, RequestKind.APPLICATION, encode_get(b"k")) for number in (2, 3)]
    happened = order(stage, 3, *gets)
    happened += order(stage, 4, gets[1])
    outcomes = [e.reply.outcome for e in happened if isinstance(e, SendReply) and isinstance(e.reply, Reply)]
    assert [(outcome.number, outcome.seq) for outcome in outcomes] == [(2, 3), (3, 4)]
