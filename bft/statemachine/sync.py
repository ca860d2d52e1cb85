"""The receiving side of state transfer: builds the trie of a certified root, node by verified node."""

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, TypeAlias

from bft.statemachine.trie import (
    DEPTH_MAX,
    EMPTY_ROOT,
    Inner,
    InnerShape,
    Leaf,
    MerkleTrie,
    Node,
    decode_node,
    nibbles_of,
    path_of,
)

Path: TypeAlias = bytes  # one nibble a byte, at most 64

_UNFINISHED_KEPT: Final = 2  # of the syncs that this one continues, how many are searched for subtrees


class _Partial:
    """An inner node, received and verified, of which some subtrees are still missing."""

    __slots__ = ("absent", "bitmap", "hash", "nibble", "parent", "slots")

    def __init__(self, shape: InnerShape, want: "_Want") -> None:
        self.hash: Final = want.hash
        self.bitmap: Final = shape.bitmap
        self.slots: list[_Known | None] = [None] * 16
        self.absent = 0  # how many children are not complete yet
        self.parent: Final = want.parent
        self.nibble: Final = want.nibble


_Known: TypeAlias = Leaf | Inner | _Partial


class _Want:
    """A node that is needed: its hash, where it goes, and what was at its path in older states."""

    __slots__ = ("hash", "nibble", "older", "parent")

    def __init__(self, node_hash: bytes, older: tuple[_Known, ...], parent: _Partial | None, nibble: int) -> None:
        self.hash: Final = node_hash
        self.older: Final = older
        self.parent: Final = parent
        self.nibble: Final = nibble


class StateSync:
    """Fetches the state behind `root`, reusing every subtree that an older trie has at the same path.

    `root` is certified by a quorum, so what hashes to it is what correct replicas hold: a hostile source can withhold
    nodes or send others, which `accept` refuses, but not make the result differ.  The checks of shape (depth, a leaf
    under its path, no lone leaf below an inner node) are therefore for robustness only: they could fail only if correct
    replicas certified a malformed trie.  Memory is bounded by the certified state: a path is wanted only if a verified
    node named it, newest first, which keeps the frontier within 16 paths a level for each request in flight.
    """

    def __init__(self, root: bytes, older: MerkleTrie) -> None:
        self._start(root, () if older.top is None else (older.top,))

    def _start(self, root: bytes, older: tuple[_Known, ...]) -> None:
        self._older = older
        self._wanted: dict[Path, _Want] = {}  # to be asked for; disjoint from `_outstanding`
        self._outstanding: dict[Path, _Want] = {}  # handed out by `missing`
        self._received = 0
        self._partial: _Partial | None = None  # the top node while it is not complete
        self._result: MerkleTrie | None = None
        if root == EMPTY_ROOT:
            self._result = MerkleTrie()
        elif (same := _complete_with(root, older)) is not None:
            self._result = MerkleTrie(same)
        else:
            self._wanted[b""] = _Want(root, older, None, 0)

    def towards(self, root: bytes) -> "StateSync":
        """Return a sync to another, usually newer, root that reuses what this one reused or received so far."""
        known: list[_Known] = [node for node in self._older if isinstance(node, _Partial)]
        top = self._result.top if self._result is not None else self._partial
        if top is not None:
            known.append(top)
        complete = [node for node in self._older if not isinstance(node, _Partial)]
        successor = StateSync.__new__(StateSync)
        successor._start(root, (*complete[-1:], *known[-_UNFINISHED_KEPT:]))  # noqa: SLF001 (the same class)
        return successor

    @property
    def complete(self) -> bool:
        return self._result is not None

    @property
    def progress(self) -> tuple[int, int]:
        """Nodes received, and nodes known to be missing."""
        return self._received, len(self._wanted) + len(self._outstanding)

    def result(self) -> MerkleTrie:
        """Return the trie of the root; RuntimeError while it is not `complete`."""
        if self._result is None:
            raise RuntimeError("the state is not complete yet")
        return self._result

    def missing(self, limit: int) -> list[Path]:
        """Return at most `limit` paths to ask for; each counts as outstanding until accepted or requeued."""
        paths: list[Path] = []
        while self._wanted and len(paths) < limit:
            path, want = self._wanted.popitem()
            self._outstanding[path] = want
            paths.append(path)
        return paths

    def requeue(self, paths: Iterable[Path]) -> None:
        """Want `paths` again, after a time-out or a bad answer; paths that are not outstanding are ignored."""
        for path in paths:
            want = self._outstanding.pop(path, None)
            if want is not None:
                self._wanted[path] = want

    def accept(self, path: Path, encoding: bytes) -> bool:
        """Take a node; False, and nothing changed, unless it is wanted, hashes as expected and is well-formed.

        An answer that comes after its path was requeued is as good as any.
        """
        want = self._outstanding.get(path) or self._wanted.get(path)
        if want is None or sha256(encoding).digest() != want.hash:
            return False
        node = decode_node(encoding)
        if isinstance(node, Leaf):
            alone = want.parent is not None and want.parent.bitmap.bit_count() == 1
            if alone or path_of(node.key)[: len(path)] != path:
                return False
            self._settle(path)
            self._attach(want.parent, want.nibble, node)
            return True
        return node is not None and len(path) < DEPTH_MAX and self._accept_inner(path, node, want)

    def _accept_inner(self, path: Path, shape: InnerShape, want: _Want) -> bool:
        partial = _Partial(shape, want)
        wanted: list[tuple[Path, _Want]] = []
        for nibble, child_hash in zip(nibbles_of(shape.bitmap), shape.hashes, strict=True):
            older = tuple(child for node in want.older if (child := _child_of(node, nibble, len(path))) is not None)
            same = _complete_with(child_hash, older)
            if same is None:
                wanted.append((path + bytes((nibble,)), _Want(child_hash, older, partial, nibble)))
            partial.slots[nibble] = same
        if len(shape.hashes) == 1 and isinstance(partial.slots[nibbles_of(shape.bitmap)[0]], Leaf):
            return False
        self._settle(path)
        partial.absent = len(wanted)
        self._wanted.update(reversed(wanted))
        if not wanted:
            self._attach(want.parent, want.nibble, _finished(partial))
        elif want.parent is None:
            self._partial = partial
        else:
            want.parent.slots[want.nibble] = partial
        return True

    def _settle(self, path: Path) -> None:
        self._outstanding.pop(path, None)
        self._wanted.pop(path, None)
        self._received += 1

    def _attach(self, parent: _Partial | None, nibble: int, node: Node) -> None:
        """Put a complete subtree into its place, and every ancestor that it completes into its own."""
        while parent is not None:
            parent.slots[nibble] = node
            parent.absent -= 1
            if parent.absent:
                return
            node, nibble, parent = _finished(parent), parent.nibble, parent.parent
        self._partial = None
        self._result = MerkleTrie(node)


def _finished(partial: _Partial) -> Inner:
    return Inner(partial.bitmap, tuple(node for node in partial.slots if isinstance(node, Leaf | Inner)))


def _complete_with(node_hash: bytes, older: tuple[_Known, ...]) -> Node | None:
    """Return the complete subtree of `node_hash` among `older`; an equal hash at an equal path is an equal subtree."""
    for node in older:
        if node.hash == node_hash and not isinstance(node, _Partial):
            return node
    return None


def _child_of(node: _Known, nibble: int, depth: int) -> _Known | None:
    """Return what an older state has below `node`, which is at `depth`, in the direction of `nibble`.

    A leaf counts as lying one deeper: it moves there, unchanged, when a key that shares its path is added.
    """
    if isinstance(node, Leaf):
        return node if path_of(node.key)[depth] == nibble else None
    return node.slots[nibble] if isinstance(node, _Partial) else node.child(nibble)
