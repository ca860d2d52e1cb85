"""Requests, and the replies of replicas that really sign, for tests of receipts."""

from dataclasses import replace

from bft.auth import KeySigner
from bft.config import ClusterConfig
from bft.core.messages import Authenticated, BatchResult, Outcome, Reply, Request
from bft.core.parameters import Parameters
from bft.receipt import Receipt, SignedPath, make_receipt
from crypto import merkle
from tests.unit.client.world import REPLICA_KEYS, cluster_of, outcome_of, signed_request

CLUSTER = cluster_of(Parameters(n=4))


def signed_reply(
    outcome: Outcome, replica: int, *, others: int = 2, place: int = 1, cluster: ClusterConfig = CLUSTER
) -> Reply:
    """What the replica says after executing a batch in which `others` had a request too."""
    outcomes = [replace(outcome, number=1000 + other) for other in range(others)]
    outcomes.insert(place, outcome)
    root, paths = merkle.all_proofs([each.leaf for each in outcomes])
    signer = KeySigner(REPLICA_KEYS[replica], cluster.domain)
    place = outcomes.index(outcome)
    return Reply(
        outcome,
        signer.sign(BatchResult(0, outcome.seq, root, replica)),
        place,
        len(outcomes),
        paths[place],
    )


def badly_signed(reply: Reply) -> Reply:
    """The right outcome, and a signature that is none: the link does not show it."""
    return replace(reply, result=replace(reply.result, signature=bytes(64)))


def vouched(*replies: Reply) -> list[SignedPath]:
    return [(reply.result, reply.index, reply.count, reply.path) for reply in replies]


def receipt_of(
    request: Authenticated[Request] | None = None,
    *,
    replicas=(0, 2),
    position: int = 0,
    cluster: ClusterConfig = CLUSTER,
    results: tuple[bytes, ...] | None = None,
    **batch: int,
) -> Receipt:
    request = request or signed_request(b"operation")
    outcome = outcome_of(request, results=results)
    replies = [signed_reply(outcome, replica, cluster=cluster, **batch) for replica in replicas]
    receipt = make_receipt(cluster, request, outcome, position=position, vouched=vouched(*replies))
    assert receipt is not None
    return receipt
