"""The root of a state that is too large to be held, from its items in the order of their paths."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final

from bft.statemachine.trie import DEPTH_MAX, EMPTY_ROOT, Leaf, inner_encoding, path_of


def root_of(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """As `MerkleTrie().update(dict(items)).root`, with one path of the trie in memory.

    ValueError if a path is not behind the one before it.
    """
    stream = _Stream()
    for key, value in items:
        stream.add(path_of(key), Leaf(key, value).hash)
    return stream.end()


class _Stream:
    """The latest leaf, whose depth the next one decides, and the inner nodes above it that may get more children."""

    def __init__(self) -> None:
        self._open: Final[list[list[tuple[int, bytes]]]] = [[] for _ in range(DEPTH_MAX)]  # nibble and hash, by depth
        self._path: bytes | None = None
        self._hash = b""
        self._shared = -1  # how many nibbles the latest path has in common with the one before it

    def add(self, path: bytes, leaf_hash: bytes) -> None:
        if self._path is not None:
            if path <= self._path:
                raise ValueError("an item is not in its place")
            shared = next(at for at in range(DEPTH_MAX) if path[at] != self._path[at])
            self._settle(self._path, shared)
            self._shared = shared
        self._path, self._hash = path, leaf_hash

    def end(self) -> bytes:
        if self._path is None:
            return EMPTY_ROOT
        if self._shared < 0:  # the only one
            return self._hash
        self._settle(self._path, 0)
        return _closed(self._open[0])

    def _settle(self, path: bytes, shared: int) -> None:
        """The latest leaf gets its place, and each node into which no later one falls its hash."""
        depth = max(self._shared, shared)
        self._open[depth].append((path[depth], self._hash))
        for at in range(depth, shared, -1):
            self._open[at - 1].append((path[at - 1], _closed(self._open[at])))


def _closed(children: list[tuple[int, bytes]]) -> bytes:
    bitmap = sum(1 << nibble for nibble, _ in children)
    digest = sha256(inner_encoding(bitmap, [child for _, child in children])).digest()
    children.clear()
    return digest
