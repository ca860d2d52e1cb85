"""An ordered map of byte keys with undo, to which plain writes cost a dict store each."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from sortedcontainers import SortedList

from bft.statemachine.api import ApplicationError, ReadStore

KEY_BYTES_MAX: Final = 4096
VALUE_BYTES_MAX: Final = 1 << 20
_RANGE_CHUNK: Final = 128  # part of what a range sees while it is written to: the same on every replica


class KeySpace:
    """Keys under one prefix, which their holder neither sees nor can leave.

    Keys are held with the prefix (as the Merkle trie wants them).  The ordered index is brought up to date only when a
    range is asked: `_stale` holds, for each key whose presence may have changed since, whether the index has it.
    """

    def __init__(self, prefix: bytes) -> None:
        self._prefix: Final = prefix
        self._data: dict[bytes, bytes] = {}
        self._dirty: dict[bytes, None] = {}
        self._undo: list[tuple[bytes, bytes | None]] | None = None  # None: outside an operation, nothing may be written
        self._index: Any = None  # SortedList of the keys, built by the first range
        self._stale: dict[bytes, bool] = {}

    # --- reads ----------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        return self._data.get(self._prefix + key)

    def range(
        self, start: bytes = b"", end: bytes | None = None, *, limit: int | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """See `ReadStore.range`.  Works on `_RANGE_CHUNK` keys at a time, so that a long range may be left early."""
        low = self._prefix + start
        high = None if end is None else self._prefix + end
        if high is not None and high <= low:
            return
        left = len(self._data) if limit is None else limit
        inclusive = (True, False)
        strip = len(self._prefix)
        while left > 0:
            index = self._settled_index()
            chunk = list(islice(index.irange(low, high, inclusive, reverse=reverse), _RANGE_CHUNK))
            for key in chunk:
                value = self._data.get(key)
                if value is not None:
                    yield key[strip:], value
                    left -= 1
                    if left <= 0:
                        return
            if len(chunk) < _RANGE_CHUNK:
                return
            if reverse:
                high = chunk[-1]
            else:
                low, inclusive = chunk[-1], (False, False)

    # --- writes of an operation -------------------------------------------------------------------------------------

    def put(self, key: bytes, value: bytes) -> None:
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            raise ApplicationError("bad_key", f"a key is 1..{KEY_BYTES_MAX} bytes")
        if type(value) is not bytes or len(value) > VALUE_BYTES_MAX:
            raise ApplicationError("bad_value", f"a value is at most {VALUE_BYTES_MAX} bytes")
        undo = self._undo
        if undo is None:
            raise RuntimeError("the store is written during `apply` only")
        key = self._prefix + key
        data = self._data
        old = data.get(key)
        undo.append((key, old))
        if old is None:
            self._stale.setdefault(key, False)
        data[key] = value
        self._dirty[key] = None

    def delete(self, key: bytes) -> bool:
        undo = self._undo
        if undo is None:
            raise RuntimeError("the store is written during `apply` only")
        key = self._prefix + key
        old = self._data.pop(key, None)
        if old is None:
            return False
        undo.append((key, old))
        self._stale.setdefault(key, True)
        self._dirty[key] = None
        return True

    def begin(self) -> None:
        """Open an operation: writes are possible until `commit` or `rollback`."""
        self._undo = []

    def commit(self) -> None:
        self._undo = None

    def rollback(self) -> None:
        """Close the operation and leave every value as `begin` found it."""
        undo, self._undo = self._undo, None
        data = self._data
        for key, old in reversed(undo or ()):
            # A range within the operation may have put its writes into the index.
            if old is None:
                self._stale.setdefault(key, True)
                del data[key]
            else:
                if key not in data:
                    self._stale.setdefault(key, False)
                data[key] = old

    # --- writes of the framework --------------------------------------------------------------------------------------

    def set(self, key: bytes, value: bytes | None) -> None:
        """Write (None: remove) outside any operation: no limits, no undo."""
        key = self._prefix + key
        held = key in self._data
        if held != (value is not None):
            self._stale.setdefault(key, held)
        if value is not None:
            self._data[key] = value
        elif held:
            del self._data[key]
        self._dirty[key] = None

    def load(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Replace everything by `items`, whose keys carry the prefix; nothing is dirty afterwards."""
        self._data = dict(items)
        self._dirty = {}
        self._undo = None
        self._index = None
        self._stale = {}

    def settled(self, key: bytes, otherwise: bytes) -> bytes | None:
        """The value of a prefixed key; `otherwise` if it was written since the last `take_changes`."""
        return otherwise if key in self._dirty else self._data.get(key)

    def take_changes(self) -> dict[bytes, bytes | None]:
        """Return prefixed key and value (None: absent) of all that was written since the last call."""
        dirty, self._dirty = self._dirty, {}
        # Here because it is called at each checkpoint: it bounds `_stale` for a service that never asks for a range.
        if self._index is None:
            self._stale.clear()
        else:
            self._settled_index()
        data = self._data
        return {key: data.get(key) for key in dirty}

    def _settled_index(self) -> Any:
        if self._index is None:
            self._index = SortedList(self._data)
        elif self._stale:
            data = self._data
            for key, indexed in self._stale.items():
                if indexed and key not in data:
                    self._index.remove(key)
            self._index.update([key for key, indexed in self._stale.items() if not indexed and key in data])
        self._stale.clear()
        return self._index


class ReadView:
    """The reads of a key space and nothing else: what a query gets for a store."""

    __slots__ = ("get", "range")

    def __init__(self, store: ReadStore) -> None:
        self.get: Final = store.get
        self.range: Final = store.range
