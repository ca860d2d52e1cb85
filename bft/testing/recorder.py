"""Records what real clients are told as a history that can be judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from bft.client import ClientClosed, Result
from bft.errors import ApplicationError, NoQuorum, Overloaded, Timeout
from bft.statemachine import kv
from bft.testing.history import Action, Cas, Delete, Get, Listing, Observed, Operation, Put, Range, Swap, Witness


class Caller(Protocol):
    """What is needed of a `bft.Client`."""

    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result: ...


class Recorder:
    """The history of any number of clients in one process.

    It is complete only when every `perform` has ended: one still under way may have taken effect unrecorded.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.history: Final[list[Operation]] = []  # by return
        self._clock_ns = clock_ns

    async def perform(self, name: str, client: Caller, action: Action, *, timeout: float | None = None) -> Observed:
        """Do `action` as the client called `name`.  Raises what `client.call` raises.

        An operation that failed is recorded with unknown outcome, unless it is certain that it changed nothing; so is
        one that was cancelled.
        """
        invoked_ns = self._clock_ns()
        open_ended = True
        try:
            result = await client.call(encoded(action), timeout=timeout)
            open_ended = False
        except (ApplicationError, NoQuorum, Overloaded):
            open_ended = False
            raise
        except (Timeout, ClientClosed) as error:
            open_ended = error.ambiguous
            raise
        finally:
            if open_ended:
                self.history.append(Operation(name, action, invoked_ns))
        returned_ns = self._clock_ns()
        observed, revision = decoded(action, result.value)
        witness = Witness(result.seq, revision or None)
        self.history.append(Operation(name, action, invoked_ns, returned_ns, observed, witness))
        return observed


def encoded(action: Action) -> bytes:
    """The operation of the key-value service."""
    match action:
        case Put(key, value):
            return kv.encode_put(key, value)
        case Get(key):
            return kv.encode_get(key)
        case Delete(key):
            return kv.encode_delete(key)
        case Cas(key, expected, new):
            return kv.encode_cas(key, expected, new)
        case Range(start, end):
            return kv.encode_range(start, end)


def decoded(action: Action, value: bytes) -> tuple[Observed, int]:
    """The result, and the revision of what was written; 0 if nothing was."""
    match action:
        case Put():
            return None, kv.decode_put(value)
        case Get():
            return _value(kv.decode_get(value)), 0
        case Delete():
            deletion = kv.decode_delete(value)
            return deletion.deleted, deletion.revision
        case Cas():
            swap = kv.decode_cas(value)
            return Swap(swap.swapped, _value(swap.previous)), swap.revision
        case Range():
            found = kv.decode_range(value)
            return Listing(tuple((key, entry.value) for key, entry in found.items), found.more), 0


def _value(entry: kv.Entry | None) -> bytes | None:
    return None if entry is None else entry.value
