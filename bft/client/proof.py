"""What receipts are made of: kept from the replies for as long as somebody holds a result, used when he asks."""

from bft.client.collector import Accepted
from bft.client.errors import NoReceipt
from bft.config import ClusterConfig
from bft.core.messages import Authenticated, ReplicaId, Reply, Request
from bft.core.quorum import Quorums
from bft.receipt import Receipt, SignedPath, make_receipt


class Proof:
    """The replies that agree on one bundle's outcome: at most one a replica.  Shared by the results of the bundle.

    No signature is verified before a receipt is asked for.  For one thread that adds, and any that ask.
    """

    __slots__ = ("__weakref__", "_cluster", "_outcome", "_request", "_vouched")

    def __init__(self, cluster: ClusterConfig, request: Authenticated[Request], accepted: Accepted) -> None:
        self._cluster = cluster
        self._request = request
        self._outcome = accepted.outcome
        # Without the outcome, of which each reply has a copy of its own.
        self._vouched: dict[ReplicaId, SignedPath] = {
            reply.result.message.replica: (reply.result, reply.index, reply.count, reply.path)
            for reply in accepted.replies
        }

    def add(self, sender: ReplicaId, reply: Reply) -> None:
        """Take a late reply that came on ``sender``'s link; its word may be needed if another's is badly signed."""
        if reply.result.message.replica == sender and reply.outcome == self._outcome:
            self._vouched[sender] = (reply.result, reply.index, reply.count, reply.path)

    def receipt(self, position: int) -> Receipt:
        """The receipt of one operation of the bundle.  Raises NoReceipt."""
        vouched = tuple(self._vouched.values())
        receipt = make_receipt(self._cluster, self._request, self._outcome, position=position, vouched=vouched)
        if receipt is None:
            weak = Quorums.of(self._cluster.parameters.n).weak
            raise NoReceipt(
                f"of the {len(vouched)} replies that agree on the result fewer than {weak} are well signed; "
                "the result stands, and the receipt may be had as soon as more replicas have answered"
            )
        return receipt
