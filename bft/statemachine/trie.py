"""An immutable radix-16 Merkle trie: the same content has the same root, whatever the order of updates.

A key's path is SHA-256(key) as 64 nibbles, so keys chosen by an attacker cannot make the trie deep at will.  A leaf
sits at its key's shortest path that no other key shares; an inner node exists exactly where two or more keys share a
prefix.  The shape is therefore a function of the content.  A node's hash is SHA-256 of its encoding:

    leaf    0x00, length of the key (4 bytes, big-endian), key, value
    inner   0x01, bitmap (2 bytes, big-endian; bit i set: child i present), hash of each present child in order of i
    empty   0x02, as the root of an empty trie only
"""

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Final, TypeAlias

HASH_BYTES: Final = 32
DEPTH_MAX: Final = 2 * HASH_BYTES  # nibbles of a path
EMPTY_ENCODING: Final = b"\x02"
EMPTY_ROOT: Final = sha256(EMPTY_ENCODING).digest()
_LEAF: Final = b"\x00"
_INNER: Final = b"\x01"
_NIBBLE: Final = {digit: value for value, digit in enumerate("0123456789abcdef")}


class Leaf:
    """One key and its value."""

    __slots__ = ("hash", "key", "value")

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key: Final = key
        self.value: Final = value
        self.hash: Final = sha256(_LEAF + len(key).to_bytes(4) + key + value).digest()

    def encoding(self) -> bytes:
        return _LEAF + len(self.key).to_bytes(4) + self.key + self.value


class Inner:
    """Two or more leaves that share the path so far; `children` are the present ones in order of their nibble."""

    __slots__ = ("bitmap", "children", "hash")

    def __init__(self, bitmap: int, children: tuple["Node", ...]) -> None:
        self.bitmap: Final = bitmap
        self.children: Final = children
        self.hash: Final = sha256(self.encoding()).digest()

    def encoding(self) -> bytes:
        return inner_encoding(self.bitmap, [child.hash for child in self.children])

    def child(self, nibble: int) -> "Node | None":
        if not self.bitmap >> nibble & 1:
            return None
        return self.children[(self.bitmap & ((1 << nibble) - 1)).bit_count()]


def inner_encoding(bitmap: int, hashes: Sequence[bytes]) -> bytes:
    """The encoding of an inner node of which only the hashes of its children are known."""
    return b"".join((_INNER, bitmap.to_bytes(2), *hashes))


Node: TypeAlias = Leaf | Inner


@dataclass(frozen=True, slots=True)
class InnerShape:
    """What an inner node's encoding says: which children there are and their hashes, in order of their nibble."""

    bitmap: int
    hashes: tuple[bytes, ...]


def decode_node(encoding: bytes) -> Leaf | InnerShape | None:
    """Return the node that `encoding` says, None if it is no node's encoding."""
    kind = encoding[:1]
    if kind == _LEAF and len(encoding) >= 5:
        end = 5 + int.from_bytes(encoding[1:5])
        return Leaf(encoding[5:end], encoding[end:]) if end <= len(encoding) else None
    if kind == _INNER and len(encoding) >= 3:
        bitmap = int.from_bytes(encoding[1:3])
        if bitmap and len(encoding) == 3 + bitmap.bit_count() * HASH_BYTES:
            return InnerShape(bitmap, tuple(encoding[i : i + HASH_BYTES] for i in range(3, len(encoding), HASH_BYTES)))
    return None


def path_of(key: bytes) -> bytes:
    """Return the 64 nibbles, one a byte, under which `key` is found."""
    return bytes([nibble for byte in sha256(key).digest() for nibble in (byte >> 4, byte & 15)])


@lru_cache(maxsize=1 << 16)
def nibbles_of(bitmap: int) -> tuple[int, ...]:
    """Return the children that `bitmap` says are present, in order."""
    return tuple(nibble for nibble in range(16) if bitmap >> nibble & 1)


@dataclass(frozen=True, slots=True)
class Proof:
    """The encodings of the nodes from the root to where a key is, or where it would be."""

    nodes: tuple[bytes, ...]


def verify_proof(root: bytes, key: bytes, value: bytes | None, proof: Proof) -> bool:
    """Whether `proof` shows that the trie of `root` holds exactly `value` for `key` (None: does not hold `key`)."""
    if root == EMPTY_ROOT:
        return value is None and not proof.nodes
    path = path_of(key)
    expected = root
    last = len(proof.nodes) - 1
    for depth, encoding in enumerate(proof.nodes):
        if depth > DEPTH_MAX or sha256(encoding).digest() != expected:
            return False
        node = decode_node(encoding)
        if isinstance(node, Leaf):
            if node.key == key:
                return depth == last and value == node.value
            return depth == last and value is None and path_of(node.key)[:depth] == path[:depth]
        if node is None or depth == DEPTH_MAX:
            return False
        if not node.bitmap >> path[depth] & 1:
            return depth == last and value is None
        expected = node.hashes[(node.bitmap & ((1 << path[depth]) - 1)).bit_count()]
    return False  # it ends before it says anything


class MerkleTrie:
    """An immutable map of byte keys to byte values with a Merkle root; versions share what they have in common."""

    __slots__ = ("_top",)

    def __init__(self, top: Node | None = None) -> None:
        self._top: Final = top

    @property
    def root(self) -> bytes:
        return EMPTY_ROOT if self._top is None else self._top.hash

    @property
    def top(self) -> Node | None:
        return self._top

    def update(self, changes: Mapping[bytes, bytes | None]) -> "MerkleTrie":
        """Return the trie with `changes` (None removes a key) made; hashes each node on a changed path once."""
        ordered = sorted([(sha256(key).hexdigest(), key, value) for key, value in changes.items()], key=itemgetter(0))
        top = _update(self._top, ordered, 0, len(ordered), 0)
        return self if top is self._top else MerkleTrie(top)

    def get(self, key: bytes) -> bytes | None:
        leaf = self.leaf(key)
        return None if leaf is None else leaf.value

    def leaf(self, key: bytes) -> Leaf | None:
        node = self._top
        path = path_of(key)
        depth = 0
        while isinstance(node, Inner):
            node = node.child(path[depth])
            depth += 1
        return node if node is not None and node.key == key else None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield all (key, value), in the order of their paths."""
        stack: list[Node] = [] if self._top is None else [self._top]
        while stack:
            node = stack.pop()
            if isinstance(node, Leaf):
                yield node.key, node.value
            else:
                stack.extend(reversed(node.children))

    def changes_since(self, older: "MerkleTrie") -> Iterator[tuple[bytes, bytes | None]]:
        """Yield each key whose value is not what `older` has, with its value here (None: it is gone).

        Costs what differs, whatever the size of the two; from an empty trie it yields all, in the order of their paths.
        """
        stack: list[tuple[Node | None, Node | None]] = [(older.top, self._top)]
        while stack:
            before, after = stack.pop()
            if before is after or (before is not None and after is not None and before.hash == after.hash):
                continue
            if isinstance(before, Inner) and isinstance(after, Inner):
                pairs: Iterable[tuple[Node | None, Node | None]]
                if before.bitmap == after.bitmap:  # nearly always: no key came here and none went
                    pairs = zip(reversed(before.children), reversed(after.children), strict=True)
                else:
                    both = reversed(nibbles_of(before.bitmap | after.bitmap))
                    pairs = ((before.child(nibble), after.child(nibble)) for nibble in both)
                stack.extend([pair for pair in pairs if pair[0] is not pair[1]])
                continue
            # One side has a leaf or nothing here, so but for one key everything on the other side is a difference.
            gone = dict(MerkleTrie(before).items())
            for key, value in MerkleTrie(after).items():
                if gone.pop(key, None) != value:
                    yield key, value
            for key in gone:
                yield key, None

    def prove(self, key: bytes) -> Proof:
        """Return the proof that `key` has the value that `get` returns, absence included."""
        nodes: list[bytes] = []
        node = self._top
        for nibble in path_of(key):
            if node is None:
                break
            nodes.append(node.encoding())
            if isinstance(node, Leaf):
                break
            node = node.child(nibble)
        return Proof(tuple(nodes))

    def read_node(self, path: bytes) -> bytes | None:
        """Return the encoding of the node at `path` (one nibble a byte); None if there is none, whatever `path` is."""
        node = self._top
        if node is None:
            return None if path else EMPTY_ENCODING
        for nibble in path:
            if nibble > 15 or not isinstance(node, Inner):
                return None
            node = node.child(nibble)
        return None if node is None else node.encoding()


# Changes and leaves below are sorted by path; paths are 64 hexadecimal digits.
_Change: TypeAlias = tuple[str, bytes, bytes | None]
_Placed: TypeAlias = tuple[str, Leaf]


def _update(node: Node | None, changes: Sequence[_Change], low: int, high: int, depth: int) -> Node | None:
    """Return the subtree at `depth` with changes[low:high] made; the same object if they change nothing."""
    if not isinstance(node, Inner):
        return _update_leaf(node, changes, low, high, depth)
    bitmap = node.bitmap
    children = list(node.children)
    changed = False
    while low < high:
        digit = changes[low][0][depth]
        end = low + 1
        while end < high and changes[end][0][depth] == digit:
            end += 1
        bit = 1 << _NIBBLE[digit]
        index = (bitmap & (bit - 1)).bit_count()
        before = children[index] if bitmap & bit else None
        after = _update(before, changes, low, end, depth + 1)
        low = end
        if after is before:
            continue
        changed = True
        if before is None and after is not None:
            children.insert(index, after)
            bitmap |= bit
        elif after is None:
            del children[index]
            bitmap ^= bit
        else:
            children[index] = after
    if not changed:
        return node
    if len(children) > 1 or (children and isinstance(children[0], Inner)):
        return Inner(bitmap, tuple(children))
    return children[0] if children else None  # a lone leaf takes its parent's place


def _update_leaf(old: Leaf | None, changes: Sequence[_Change], low: int, high: int, depth: int) -> Node | None:
    """As `_update`, where there is at most one leaf so far."""
    if high - low == 1:  # by far the most frequent: one key that was there, or is new
        _, key, value = changes[low]
        if old is None or old.key == key:
            unchanged = old is not None and old.value == value
            return old if unchanged or (old is None and value is None) else _leaf(key, value)
    placed: list[_Placed] = []
    for path, key, value in changes[low:high]:
        if old is not None and key == old.key:
            if value == old.value:
                placed.append((path, old))
            elif value is not None:
                placed.append((path, Leaf(key, value)))
            old = None
        elif value is not None:
            placed.append((path, Leaf(key, value)))
    if old is not None:
        insort(placed, (sha256(old.key).hexdigest(), old), key=itemgetter(0))
    return _build(placed, 0, len(placed), depth) if placed else None


def _leaf(key: bytes, value: bytes | None) -> Leaf | None:
    return None if value is None else Leaf(key, value)


def _build(placed: Sequence[_Placed], low: int, high: int, depth: int) -> Node:
    """Return the subtree at `depth` of the leaves placed[low:high], at least one."""
    if high - low == 1:
        return placed[low][1]
    bitmap = 0
    children: list[Node] = []
    while low < high:
        digit = placed[low][0][depth]
        end = low + 1
        while end < high and placed[end][0][depth] == digit:
            end += 1
        bitmap |= 1 << _NIBBLE[digit]
        children.append(_build(placed, low, end, depth + 1))
        low = end
    return Inner(bitmap, tuple(children))
