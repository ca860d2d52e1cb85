"""What a replayed request can do to a client's sessions (DESIGN §4, Sessions)."""

import msgpack

from bft.core.effects import SendReply
from bft.core.messages import Authenticated, Batch, Reply, ReplyStatus, Request, RequestKind
from bft.testing.symbolic import symbolic_certificate
from tests.paper.stage import CLIENT, Stage


def signed(session: int, number: int, kind: RequestKind, *operations: bytes) -> Authenticated[Request]:
    request = Request(CLIENT, session, number, 0, kind, operations)
    return Authenticated(request, msgpack.packb((session, number, *operations)), bytes(64))


def order(stage: Stage, seq: int, request: Authenticated[Request]) -> Reply:
    """Everybody agrees on a batch of it; our reply."""
    batch = Batch(stage.now.wall_ns, (request,))
    happened = stage.receive(0, stage.proposal(seq=seq, batch=batch))
    for replica in (2, 3):
        happened += stage.receive(replica, stage.prepare(replica, seq=seq, digest=batch.digest))
    for replica in (0, 2, 3):
        happened += stage.receive(replica, stage.commit(replica, seq=seq, digest=batch.digest))
    (reply,) = [e.reply for e in happened if isinstance(e, SendReply) and isinstance(e.reply, Reply)]
    return reply


def test_replayed_registrations_do_not_evict_the_session_in_use() -> None:
    """A Byzantine replica keeps a client's signed REGISTERs; those of evicted sessions must not open new ones."""
    stage = Stage(n=4, me=1, checkpoint_interval=64, sessions_per_client_max=2)
    registrations = [signed(0, nonce, RequestKind.REGISTER, symbolic_certificate(CLIENT)) for nonce in range(1, 5)]
    newest = [order(stage, seq, registration) for seq, registration in enumerate(registrations, start=1)][-1]
    session = int.from_bytes(newest.outcome.results[0], "big")
    for seq, replayed in enumerate(registrations[:2], start=5):
        order(stage, seq, replayed)
    outcome = order(stage, 7, signed(session, 1, RequestKind.APPLICATION, b"operation")).outcome
    assert outcome.status is ReplyStatus.EXECUTED
