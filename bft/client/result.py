"""What a call returns."""

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from bft.client.errors import NoReceipt

if TYPE_CHECKING:  # the proof is made of the collector's replies; a result only carries it
    from bft.client.proof import Proof
    from bft.receipt import Receipt

Consistency: TypeAlias = Literal["linearizable", "ordered", "stale"]


class Result(NamedTuple):
    """The answer to one operation, reported by at least one correct replica."""

    value: bytes  # what the service returned
    seq: int  # the sequence number at which it executed: the same at every replica
    proof: "Proof | None" = None  # the replies to the operation's bundle; they live as long as a result of it does
    position: int = 0  # of the operation in its bundle

    @property
    def receipt(self) -> "Receipt":
        """What proves this result to third parties; made, and its signatures verified, only now.

        Raises NoReceipt when too few of the replies are well signed: a faulty replica's need not be.  Late replies
        count, so asking again a moment later helps.
        """
        if self.proof is None:
            raise NoReceipt("this result did not come with replies of the replicas")
        return self.proof.receipt(self.position)

    def __repr__(self) -> str:
        return f"Result(value={self.value!r}, seq={self.seq})"


class Read(NamedTuple):
    """The answer to a read, and how it was had."""

    value: bytes  # what the service returned
    seq: int  # ordered: where; else a sequence number that its state is not older than
    consistency: Consistency  # "ordered" also when a fast read was asked for and could not be had
    result: Result | None = None  # of the ordered operation, with its receipt
