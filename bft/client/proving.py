"""Proofs of what is stored: asked of one replica at a time, and believed of none."""

import asyncio
import time
from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple, Protocol

from bft.client.errors import NoProof
from bft.codec import Proof, Prove, encode_frame
from bft.config import ClusterConfig
from bft.core.messages import ReplicaId
from bft.errors import VerificationFailed
from bft.state_proof import Proven, StateProof

ANSWER_S: Final = 1.0  # a replica that takes longer is left for the next one


class Links(Protocol):
    """The way to the replicas."""

    def send(self, replica: ReplicaId, frame: bytes) -> None: ...

    def is_up(self, replica: ReplicaId) -> bool: ...


class Stored(NamedTuple):
    """What was stored under a key at a stable checkpoint, verified."""

    proven: Proven
    proof: StateProof  # for others
    age_s: float  # of the checkpoint, by this machine's clock


class Proofs:
    """The proofs that one client waits for."""

    def __init__(
        self,
        cluster: ClusterConfig,
        links: Links,
        nonces: "count[int]",
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._cluster = cluster
        self._links = links
        self._nonces = nonces
        self._wall_ns = wall_ns
        self._waiting: dict[tuple[ReplicaId, int], asyncio.Future[bytes]] = {}

    async def prove(self, key: bytes, *, max_age: float | None, deadline: float) -> Stored:
        """What the first replica can prove that proves it well, and not too old.  Raises NoProof."""
        reasons: dict[ReplicaId, str] = {}
        n = len(self._cluster.replicas)
        first = next(self._nonces)
        for replica in [(first + offset) % n for offset in range(n)]:
            try:
                return await self._of(replica, key, max_age, deadline)
            except (VerificationFailed, TimeoutError) as error:
                reasons[replica] = str(error) or "no answer in time"
        raise NoProof(f"no replica proves it: {_told(reasons)}")

    async def _of(self, replica: ReplicaId, key: bytes, max_age: float | None, deadline: float) -> Stored:
        if not self._links.is_up(replica):
            raise VerificationFailed("not connected")
        loop = asyncio.get_running_loop()
        asked = replica, next(self._nonces)
        answer: asyncio.Future[bytes] = loop.create_future()
        self._waiting[asked] = answer
        try:
            self._links.send(replica, encode_frame(Prove(asked[1], key)))
            async with asyncio.timeout_at(min(deadline, loop.time() + ANSWER_S)):
                encoded = await answer
        finally:
            del self._waiting[asked]
        if not encoded:
            raise VerificationFailed("has no stable checkpoint yet, or the service does not let this key be proven")
        proof = StateProof.decode(encoded)
        proven = proof.verify(self._cluster)
        if proven.key != key:
            raise VerificationFailed("proves another key")
        age_s = max(self._wall_ns() - proven.time_ns, 0) / 1e9
        if max_age is not None and age_s > max_age:
            raise VerificationFailed(f"its checkpoint {proven.seq} is {age_s:.1f} s old")
        return Stored(proven, proof, age_s)

    def on_proof(self, replica: ReplicaId, answer: Proof) -> None:
        """Take what came on `replica`'s link; dropped if nobody waits for it."""
        waiting = self._waiting.get((replica, answer.nonce))
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.proof)


def _told(reasons: dict[ReplicaId, str]) -> str:
    """Each reason once, with those that gave it."""
    who: dict[str, list[ReplicaId]] = {}
    for replica, reason in sorted(reasons.items()):
        who.setdefault(reason, []).append(replica)
    return "; ".join(
        f"replica{'s' * (len(replicas) > 1)} {', '.join(map(str, replicas))}: {reason}"
        for reason, replicas in who.items()
    )
