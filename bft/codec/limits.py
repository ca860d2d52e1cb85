"""How large and how many: every bound on what a peer may send, worked out from the protocol's parameters.

The sizes are those of the largest canonical encoding of each type, so that nothing a correct replica sends is refused
and everything larger is refused unseen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from bft.codec.wire import ARRAYS_MIN, MessageType, pack
from bft.core.messages import EVIDENCE_IN_BATCH_MAX
from bft.core.parameters import Parameters

INTEGER: Final = 9  # the longest unsigned integer
HEAD: Final = 5  # the longest head of an array or of bytes
DIGEST: Final = 2 + 32
SIGNATURE: Final = 2 + 64
NIBBLES_MAX: Final = 64  # of a path in the state's trie

PRE_PREPARE: Final = 1 + INTEGER + INTEGER + DIGEST + INTEGER
COMMIT: Final = PRE_PREPARE
CHECKPOINT: Final = 1 + INTEGER + DIGEST + INTEGER
BATCH_RESULT: Final = PRE_PREPARE
HELLO: Final = 1 + INTEGER + 3 * (HEAD + 64)
REFUSAL_REASON: Final = 256
REPLY: Final = 16 << 20  # a service's results have no limit of their own
PATH_DIGESTS_MAX: Final = 64
PROVE_KEY: Final = 4096  # the longest key of a store
WATCH_OPERATION: Final = 8192  # a replica keeps it while the watch waits


def signed(payload: int) -> int:
    """The size of a signed statement whose payload has this size."""
    return 1 + HEAD + payload + SIGNATURE


PREPARE: Final = 1 + signed(PRE_PREPARE) + INTEGER


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one cluster.  `peer`, `client` and `sdk` say which frames each kind of link takes, and how long.

    A frame's bound is on what follows its length field.
    """

    n: int
    window: int  # entries of a VIEW-CHANGE, headers of a NEW-VIEW, bodies or certified batches in one answer
    operations_max: int
    request_bytes: int  # payload of one request
    batch_requests_max: int
    batch_bytes: int  # payloads of one batch's requests
    nodes_max: int  # nodes in one FETCH-STATE or its answer
    view_change: int  # payload of one VIEW-CHANGE
    new_view: int  # payload of one NEW-VIEW
    array_max: int  # items of any array
    certified_arrays_max: int  # arrays in an answer of bodies or certified batches
    prepared_arrays_max: int  # arrays in a VIEW-CHANGE
    parameters: Parameters  # what all of these follow from
    peer: Mapping[int, int]  # between replicas
    client: Mapping[int, int]  # from a client to a replica
    sdk: Mapping[int, int]  # from a replica to a client

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """The bounds that these parameters imply."""
        p = parameters
        request = signed(p.request_bytes_max)
        batch_bytes = max(p.batch_bytes_max, p.request_bytes_max)  # a request on its own always fits
        stable = HEAD + p.n * signed(CHECKPOINT)
        prepared = 1 + signed(PRE_PREPARE) + HEAD + p.n * signed(PREPARE)
        view_change = 1 + INTEGER + stable + HEAD + p.window * prepared + INTEGER
        evidence = 1 + 2 * INTEGER + 2 * signed(max(view_change, PREPARE))
        recorded = HEAD + EVIDENCE_IN_BATCH_MAX * evidence
        batch = 1 + INTEGER + HEAD + batch_bytes + p.batch_requests_max * signed(0) + recorded
        new_view = 1 + INTEGER + HEAD + p.n * signed(view_change) + HEAD + p.window * signed(PRE_PREPARE) + INTEGER
        # A sender fills an answer up to `transfer_bytes_max` of requests' payloads, and the last batch may go past it.
        # The least payload has 42 bytes, the wrapping of a request 77, so the wrapping at most trebles the bytes.
        bodies = 3 * (p.transfer_bytes_max + batch_bytes) + HEAD + recorded
        commits = 3 * HEAD + 1 + p.n * signed(COMMIT) + INTEGER
        # Likewise a node may go past it: one value, the records of one session, or recorded evidence.
        session = 2 * p.session_reply_bytes_max + p.session_window * 256
        node = p.request_bytes_max + max(session, evidence)
        bounds: dict[int, int] = {
            MessageType.REQUEST: request,
            MessageType.PREPARE: signed(PREPARE),
            MessageType.COMMIT: signed(COMMIT),
            MessageType.CHECKPOINT: signed(CHECKPOINT),
            MessageType.VIEW_CHANGE: signed(view_change),
            MessageType.NEW_VIEW: signed(new_view),
            MessageType.PROPOSAL: 1 + signed(PRE_PREPARE) + batch,
            MessageType.EVIDENCE: evidence,
            MessageType.STATUS: 1 + 1 + 4 * INTEGER + len(pack(tuple(range(p.n)))),
            MessageType.FETCH_BATCHES: 1 + INTEGER,
            MessageType.BATCHES: bodies + p.window * commits,
            MessageType.FETCH_BODIES: 1 + HEAD + p.window * DIGEST,
            MessageType.BODIES: bodies + p.window * (1 + INTEGER + 2 * HEAD),
            MessageType.STABLE_CHECKPOINT: 1 + stable,
            MessageType.FETCH_STATE: 1 + INTEGER + HEAD + p.transfer_nodes_max * (2 + NIBBLES_MAX),
            MessageType.STATE_CHUNK: 1
            + INTEGER
            + HEAD
            + p.transfer_bytes_max
            + node
            + p.transfer_nodes_max * (1 + 2 + NIBBLES_MAX + HEAD),
            MessageType.QUERY_STABLE: 1 + 3 * INTEGER,
            MessageType.REPLY_STABLE: 1
            + 2 * INTEGER
            + stable
            + 2 * HEAD
            + 4 * p.window * (1 + INTEGER + signed(PREPARE))
            + signed(view_change),
        }
        framed: dict[int, int] = {kind: size + 2 for kind, size in bounds.items()}  # version and type
        hello: dict[int, int] = {MessageType.HELLO: HELLO + 2}
        query = 1 + INTEGER + HEAD + p.request_bytes_max
        return cls(
            parameters=p,
            certified_arrays_max=p.window * (p.batch_requests_max + p.n + 8) + ARRAYS_MIN,
            prepared_arrays_max=p.window * (p.n + 4) + p.n + ARRAYS_MIN,
            n=p.n,
            window=p.window,
            operations_max=p.operations_max,
            request_bytes=p.request_bytes_max,
            batch_requests_max=p.batch_requests_max,
            batch_bytes=batch_bytes,
            nodes_max=p.transfer_nodes_max,
            view_change=view_change,
            new_view=new_view,
            array_max=max(8, p.n, p.window, p.operations_max, p.batch_requests_max, p.transfer_nodes_max),
            peer=MappingProxyType(hello | framed),
            client=MappingProxyType(
                hello
                | {
                    MessageType.REQUEST: framed[MessageType.REQUEST],
                    MessageType.QUERY: query + 2,
                    MessageType.WATCH: 1 + 3 * INTEGER + HEAD + WATCH_OPERATION + 2,
                    MessageType.PROVE: 1 + INTEGER + HEAD + PROVE_KEY + 2,
                    MessageType.FETCH_STATE: framed[MessageType.FETCH_STATE],  # of administrators
                }
            ),
            sdk=MappingProxyType(
                hello
                | {
                    MessageType.REPLY: REPLY,
                    MessageType.REFUSAL: 1 + 2 * INTEGER + HEAD + REFUSAL_REASON + 2,
                    MessageType.QUERY_ANSWER: REPLY,
                    MessageType.PROOF: REPLY,
                    MessageType.STABLE_CHECKPOINT: framed[MessageType.STABLE_CHECKPOINT],
                    MessageType.STATE_CHUNK: framed[MessageType.STATE_CHUNK],
                }
            ),
        )
