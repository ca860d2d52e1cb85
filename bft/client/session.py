"""The client's half of a session: which numbers it used and which outcomes it holds."""

from bft.core.messages import SessionId


class SessionWindow:
    """Request numbers 1, 2, 3, ... of one session.

    Invariant: every number handed out lies within ``acked + size``, so no replica that executed what the client has
    accepted finds it outside the session's window.
    """

    def __init__(self, session: SessionId, size: int) -> None:
        if size < 1:
            raise ValueError("a session window holds at least one number")
        self.session = session
        self.acked = 0  # every number up to here has an accepted outcome
        self._size = size
        self._next = 1
        self._accepted: set[int] = set()  # above `acked`: at most `size` numbers

    @property
    def is_open(self) -> bool:
        """Whether another number may be used now."""
        return self._next <= self.acked + self._size

    def allocate(self) -> int:
        """The next number.  It must be sent: the replicas would wait for a number that never comes."""
        if not self.is_open:
            raise RuntimeError("the session window is full")
        number = self._next
        self._next += 1
        return number

    def accept(self, number: int) -> None:
        """The outcome of ``number`` is held; moves ``acked`` over every number that is held without a gap."""
        if not self.acked < number < self._next:
            return
        self._accepted.add(number)
        while self.acked + 1 in self._accepted:
            self.acked += 1
            self._accepted.remove(self.acked)
