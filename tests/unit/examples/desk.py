"""A service on a desk: its operations executed as a replica would, without a cluster."""

from bft.statemachine import StateMachine
from bft.statemachine.replicated import ReplicatedState
from bft.statemachine.results import Ok, decode_result

SECOND = 10**9


class Desk:
    """Operations one after the other, each in a batch of its own."""

    def __init__(self, service: StateMachine) -> None:
        self._state = ReplicatedState(service)
        self._seq = 0
        self.time_ns = 1_800_000_000 * SECOND

    def call(self, operation: bytes, *, client: str = "alice") -> bytes | str:
        """The value, or the code of the error."""
        self._seq += 1
        self.time_ns += 1
        key = client.encode().ljust(32, b"\0")
        encoded = self._state.apply(operation, client=key, client_name=client, seq=self._seq, time_ns=self.time_ns)
        result = decode_result(encoded)
        return result.value if isinstance(result, Ok) else result.code
