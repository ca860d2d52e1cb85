"""Queries that wait for news: bounded in number, in time, and in the work that they cause.

A waiting query is asked again when the state has changed, the one that was asked longest ago first, a bounded number a
round.  The service says what to ask then (`StateMachine.poll`), so that nothing is looked at twice.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bft.codec import QueryAnswer, Watch, encode_frame
from bft.core.messages import Seq
from bft.net.clients import ClientPort
from bft.net.link import Link
from bft.statemachine.api import Poll
from bft.statemachine.results import encode_error

WAIT_MAX_S: Final = 30.0
WATCHES_MAX: Final = 4096
WATCHES_PER_CLIENT_MAX: Final = 64  # on all of its links
WATCHES_PER_LINK_MAX: Final = 16
ASKED_AGAIN_MAX: Final = 32  # a round
SWEEP_S: Final = 0.25  # how often those are looked for whose time is over
_TOO_MANY: Final = encode_error("too_many_watches", "this replica holds as many watches as it can: end some, try later")

Ask = Callable[[Link, bytes], Poll]


@dataclass(slots=True)
class _Waiting:
    nonce: int
    operation: bytes
    deadline: float  # of the event loop's clock
    asked_at: Seq  # what the replica had executed when it was last asked


class Watches:
    """The waiting queries of all links of one replica."""

    def __init__(self, clients: ClientPort, ask: Ask, wake: Callable[[], None]) -> None:
        """`ask` asks the service; `wake` brings a round, and with it a call of `serve`."""
        self._clients = clients
        self._ask = ask
        self._wake = wake
        self._waiting: OrderedDict[tuple[Link, int], _Waiting] = OrderedDict()  # asked longest ago first
        self._of_link: dict[Link, set[int]] = {}
        self._of_client: Counter[bytes] = Counter()
        self._sweep: asyncio.TimerHandle | None = None
        self._is_sweep_due = False
        self.refused = 0  # for there were too many

    def __len__(self) -> int:
        return len(self._waiting)

    def is_behind(self, executed: Seq) -> bool:
        """Whether `serve` has something to do."""
        if self._is_sweep_due:
            return True
        first = next(iter(self._waiting.values()), None)
        return first is not None and first.asked_at != executed

    def take(self, link: Link, watch: Watch, executed: Seq) -> None:
        """Answer, or wait."""
        self._forget(link, watch.watch)
        answer, later = self._ask(link, watch.operation)
        if later is None or watch.wait_ms == 0:
            self._answer(link, watch.nonce, executed, answer)
        elif not link.is_open:
            return
        elif self._has_room(link):
            patience = min(watch.wait_ms / 1000, WAIT_MAX_S)
            deadline = asyncio.get_running_loop().time() + patience
            self._waiting[link, watch.watch] = _Waiting(watch.nonce, later, deadline, executed)
            self._of_link.setdefault(link, set()).add(watch.watch)
            self._of_client[link.certificate.public_key.raw] += 1
            self._arm()
        else:
            self.refused += 1
            self._answer(link, watch.nonce, executed, _TOO_MANY)

    def serve(self, executed: Seq) -> None:
        """Ask again what waits for what was executed, a bounded number, and answer those whose time is over."""
        if self._is_sweep_due:
            self._is_sweep_due = False
            now = asyncio.get_running_loop().time()
            for key in [key for key, waiting in self._waiting.items() if waiting.deadline <= now]:
                self._ask_again(key, executed, is_last=True)
            self._arm()
        for _ in range(min(ASKED_AGAIN_MAX, len(self._waiting))):
            key, waiting = next(iter(self._waiting.items()))
            if waiting.asked_at == executed:
                break
            self._ask_again(key, executed)

    def drop(self, link: Link) -> None:
        """The link is closed."""
        for watch in tuple(self._of_link.get(link, ())):
            self._forget(link, watch)

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()

    def _ask_again(self, key: tuple[Link, int], executed: Seq, *, is_last: bool = False) -> None:
        link, watch = key
        waiting = self._waiting[key]
        answer, later = self._ask(link, waiting.operation)
        if later is None or is_last:
            self._forget(link, watch)
            self._answer(link, waiting.nonce, executed, answer)
        else:
            waiting.operation, waiting.asked_at = later, executed
            self._waiting.move_to_end(key)

    def _answer(self, link: Link, nonce: int, executed: Seq, result: bytes) -> None:
        self._clients.send_on(link, encode_frame(QueryAnswer(nonce, executed, result)))

    def _has_room(self, link: Link) -> bool:
        return (
            len(self._waiting) < WATCHES_MAX
            and len(self._of_link.get(link, ())) < WATCHES_PER_LINK_MAX
            and self._of_client[link.certificate.public_key.raw] < WATCHES_PER_CLIENT_MAX
        )

    def _forget(self, link: Link, watch: int) -> None:
        if self._waiting.pop((link, watch), None) is None:
            return
        of_link = self._of_link[link]
        of_link.remove(watch)
        if not of_link:
            del self._of_link[link]
        client = link.certificate.public_key.raw
        self._of_client[client] -= 1
        if not self._of_client[client]:
            del self._of_client[client]

    def _arm(self) -> None:
        if self._waiting and self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(SWEEP_S, self._on_sweep)

    def _on_sweep(self) -> None:
        self._sweep = None
        self._is_sweep_due = True
        self._wake()
