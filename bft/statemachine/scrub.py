"""The scrub: hashes a whole state again, slice by slice, to find a value that changed by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from bft.statemachine.trie import Leaf, MerkleTrie, Node

_NODE_BYTES: Final = 512  # what visiting a node costs besides hashing it, in bytes hashed


@dataclass(frozen=True, slots=True)
class Damage:
    """A node whose content is not what its hash says, or a working value that is not the one in the tree."""

    key: bytes | None  # None: an inner node
    expected: bytes  # hash of the node
    found: bytes


class Scrub:
    """One pass over the tree as it was when the pass began; `in_use` gives the working value that a leaf stands for."""

    def __init__(self, trie: MerkleTrie, in_use: Callable[[Leaf], bytes | None]) -> None:
        self._in_use: Final = in_use
        self._stack: list[Node] = [] if trie.top is None else [trie.top]

    @property
    def done(self) -> bool:
        return not self._stack

    def advance(self, bytes_max: int) -> Damage | None:
        """Go on with about `bytes_max` of hashing, at least one node; the first damage found."""
        left = bytes_max
        while self._stack and left > 0:
            node = self._stack.pop()
            encoding = node.encoding()
            left -= len(encoding) + _NODE_BYTES
            found = sha256(encoding).digest()
            key = node.key if isinstance(node, Leaf) else None
            if found != node.hash:
                return Damage(key, node.hash, found)
            if not isinstance(node, Leaf):
                self._stack.extend(node.children)
            elif (value := self._in_use(node)) != node.value:
                return Damage(key, node.hash, b"" if value is None else Leaf(node.key, value).hash)
        return None
