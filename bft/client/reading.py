"""Fast reads: asked of all, ordered by none, and linearizable all the same (docs/reads.md; Berger et al. 2021).

Equal results of a quorum are not enough.  A key may have been written and written back in between: of three replicas
that agree, one may be behind a completed write and another ahead of what anybody was told.  So an answer counts only if
its state is no older than that of *some* quorum of replicas; then the oldest of the states that agree is as new as
every result given before the read began, and is known to a majority of the correct replicas when it ends.
"""

import asyncio
from collections import Counter
from itertools import count
from typing import Final, NamedTuple, Protocol

from bft.codec import Query, QueryAnswer, encode_frame
from bft.core.messages import ReplicaId, Seq
from bft.core.quorum import Quorums

ROUNDS_MAX: Final = 4  # how often a replica is asked for one read, at most
PATIENCE_MIN_S: Final = 0.1  # until a read without an answer is ordered instead
PATIENCE_MAX_S: Final = 1.0
_ROUND_TRIPS: Final = 4  # of ordered operations, which take longer than a read
_PAUSE_S: Final = 0.002  # before those that are behind are asked again


class Links(Protocol):
    """The way to the replicas."""

    def send(self, replica: ReplicaId, frame: bytes) -> None: ...


class Agreed(NamedTuple):
    """What a quorum answers, from states at `seq` or later."""

    result: bytes
    seq: Seq


class ReadCollector:
    """The answers to one read, the latest of each replica."""

    def __init__(self, quorums: Quorums) -> None:
        self._quorums = quorums
        self._answers: dict[ReplicaId, tuple[Seq, bytes]] = {}

    def add(self, sender: ReplicaId, seq: Seq, result: bytes) -> Agreed | None:
        """Take the answer that came on `sender`'s link; what is agreed with it, if anything.

        Every answer must have been given after the read began.
        """
        self._answers[sender] = seq, result
        floor = self._floor
        if floor is None:
            return None
        recent = [(at, said) for at, said in self._answers.values() if at >= floor]
        said, votes = Counter(said for _, said in recent).most_common(1)[0]
        return Agreed(said, min(at for at, each in recent if each == said)) if votes >= self._quorums.quorum else None

    @property
    def _floor(self) -> Seq | None:
        """The newest state of the quorum that is the least far; a faulty replica that claims too much is not in it.

        Whatever was told to anybody before the read began was told by a majority of the correct replicas, of which
        every quorum holds one: so this state is no older.
        """
        seqs = sorted([seq for seq, _ in self._answers.values()])
        return seqs[self._quorums.quorum - 1] if len(seqs) >= self._quorums.quorum else None

    @property
    def behind(self) -> list[ReplicaId]:
        """Who answered from too old a state, and may answer better when asked again."""
        floor = self._floor
        return [] if floor is None else [replica for replica, (seq, _) in self._answers.items() if seq < floor]

    @property
    def hopeless(self) -> bool:
        """Everybody answered, nobody is behind, and still no quorum agrees."""
        return len(self._answers) == self._quorums.n and not self.behind


class _Reading:
    """A read under way."""

    __slots__ = ("agreed", "collector", "frame", "rounds")

    def __init__(self, quorums: Quorums, frame: bytes, agreed: "asyncio.Future[Agreed | None]") -> None:
        self.collector = ReadCollector(quorums)
        self.frame = frame
        self.agreed = agreed
        self.rounds = 1


class FastReads:
    """The fast reads of one client."""

    def __init__(self, quorums: Quorums, links: Links, nonces: "count[int]") -> None:
        self._quorums = quorums
        self._links = links
        self._nonces = nonces  # shared with whatever else asks queries
        self._readings: dict[int, _Reading] = {}  # by nonce; as many as there are callers
        self.accepted = 0
        self.given_up = 0  # and ordered instead

    async def read(self, operation: bytes, *, patience_s: float) -> Agreed | None:
        """What a quorum agrees on; None when it does not in time: order the operation then."""
        nonce = next(self._nonces)
        loop = asyncio.get_running_loop()
        reading = _Reading(self._quorums, encode_frame(Query(nonce, operation)), loop.create_future())
        self._readings[nonce] = reading
        try:
            for replica in range(self._quorums.n):
                self._links.send(replica, reading.frame)
            async with asyncio.timeout(patience_s):
                agreed = await reading.agreed
        except TimeoutError:
            agreed = None
        finally:
            del self._readings[nonce]
        if agreed is None:
            self.given_up += 1
        else:
            self.accepted += 1
        return agreed

    def on_answer(self, replica: ReplicaId, answer: QueryAnswer) -> None:
        """Take an answer that came on `replica`'s link; dropped if nobody waits for it."""
        reading = self._readings.get(answer.nonce)
        if reading is None or reading.agreed.done():
            return
        agreed = reading.collector.add(replica, answer.seq, answer.result)
        if agreed is not None:
            reading.agreed.set_result(agreed)
        elif reading.collector.hopeless:
            reading.agreed.set_result(None)
        elif reading.collector.behind and reading.rounds < ROUNDS_MAX:
            reading.rounds += 1
            asyncio.get_running_loop().call_later(_PAUSE_S, self._ask_again, reading)

    def _ask_again(self, reading: _Reading) -> None:
        if not reading.agreed.done():
            for replica in reading.collector.behind:
                self._links.send(replica, reading.frame)


def patience(round_trip_s: float | None) -> float:
    """How long to wait for a quorum to agree."""
    expected = PATIENCE_MIN_S if round_trip_s is None else _ROUND_TRIPS * round_trip_s
    return min(max(expected, PATIENCE_MIN_S), PATIENCE_MAX_S)
