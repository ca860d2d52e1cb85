"""A key-value service with hands: operations in the encodings that clients use, time moved by the test."""

from bft.statemachine import kv
from bft.statemachine.replicated import ReplicatedState
from bft.statemachine.results import Error, Ok, decode_result

SECOND = 10**9


class Client:
    def __init__(self, **options: int) -> None:
        self.options = options
        self.state = ReplicatedState(kv.KeyValue(**options))
        self.seq = 0
        self.time_ns = 1000 * SECOND

    def call(self, operation: bytes) -> Ok | Error:
        self.seq += 1
        self.time_ns += 1
        return decode_result(
            self.state.apply(operation, client=bytes(32), client_name="ada", seq=self.seq, time_ns=self.time_ns)
        )

    def pass_time(self, seconds: float) -> None:
        """The next batch is that much later."""
        self.time_ns += round(seconds * SECOND)

    def value(self, operation: bytes) -> bytes:
        result = self.call(operation)
        assert isinstance(result, Ok), result
        return result.value

    def code(self, operation: bytes) -> str:
        result = self.call(operation)
        assert isinstance(result, Error)
        return result.code

    def query(self, operation: bytes) -> Ok | Error:
        return decode_result(self.state.query(operation, client=bytes(32), client_name="ada"))

    def put(self, key: bytes, value: bytes = b"v", ttl: float | None = None) -> int:
        return kv.decode_put(self.value(kv.encode_put(key, value, ttl)))

    def get(self, key: bytes) -> kv.Entry | None:
        return kv.decode_get(self.value(kv.encode_get(key)))

    def delete(self, key: bytes) -> kv.DeleteResult:
        return kv.decode_delete(self.value(kv.encode_delete(key)))

    def range(self, *args) -> kv.RangeResult:
        return kv.decode_range(self.value(kv.encode_range(*args)))

    def cas(self, key: bytes, expected: bytes | None, new: bytes | None, ttl: float | None = None) -> kv.CasResult:
        return kv.decode_cas(self.value(kv.encode_cas(key, expected, new, ttl)))

    def txn(self, compares, then=(), otherwise=()) -> kv.TxnResult:
        return kv.decode_txn(self.value(kv.encode_txn(compares, then, otherwise)), then, otherwise)

    def status(self) -> kv.StoreStatus:
        return kv.decode_status(self.value(kv.encode_status()))

    def events(self, since: int = 1, start: bytes = b"", end: bytes | None = None) -> list[kv.Event]:
        """All of them, as a client asks for them: answer by answer."""
        found: list[kv.Event] = []
        while True:
            answer = self.query(kv.encode_events(since, start, end))
            assert isinstance(answer, Ok), answer
            events = kv.decode_events(answer.value)
            assert isinstance(events, kv.Events), events
            found += events.events
            if events.next == since:
                return found
            since = events.next
