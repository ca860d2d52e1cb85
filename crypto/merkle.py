"""Binary Merkle tree with inclusion proofs, shaped and hashed as in Certificate Transparency.  RFC 9162 §2.1

Built bottom-up: a level of odd length hands its last node up unchanged, which yields the RFC's tree (split at the
largest power of two).  Leaves and inner nodes are hashed under different prefixes, so neither passes for the other.
"""

from collections.abc import Sequence
from hashlib import sha256

_LEAF = b"\x00"
_NODE = b"\x01"
_HASH_SIZE = 32


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree's root hash; of no leaves SHA-256 of nothing."""
    level = _leaf_hashes(leaves)
    if not level:
        return sha256().digest()
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The hashes, leaf to root, that prove `leaves[index]` to be in the tree.  Raises IndexError."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    return _path(_levels(leaves), index)


def all_proofs(leaves: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """The root and every leaf's inclusion proof; each node is hashed once."""
    if not leaves:
        return root(leaves), []
    levels = _levels(leaves)
    return levels[-1][0], [_path(levels, index) for index in range(len(leaves))]


def verify_inclusion(root: bytes, leaf: bytes, index: int, count: int, proof: Sequence[bytes]) -> bool:
    """Whether `leaf` is number `index` of the `count` leaves under `root`; hostile arguments are simply False.

    The proof must have exactly the length that (index, count) asks for.  `count` must come from a trusted or signed
    source, for the root alone does not fix it.
    """
    if not 0 <= index < count:
        return False
    node = sha256(_LEAF + leaf).digest()
    last = count - 1  # position of the level's last node
    used = 0
    while last:
        if index & 1 or index < last:  # else the node is handed up unchanged
            if used == len(proof) or len(proof[used]) != _HASH_SIZE:
                return False
            sibling = proof[used]
            used += 1
            node = sha256(_NODE + sibling + node if index & 1 else _NODE + node + sibling).digest()
        index >>= 1
        last >>= 1
    return used == len(proof) and node == root


def _leaf_hashes(leaves: Sequence[bytes]) -> list[bytes]:
    return [sha256(_LEAF + leaf).digest() for leaf in leaves]


def _parents(level: list[bytes]) -> list[bytes]:
    above = [sha256(_NODE + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        above.append(level[-1])
    return above


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels from the leaves' hashes to the root; `leaves` is not empty."""
    levels = [_leaf_hashes(leaves)]
    while len(levels[-1]) > 1:
        levels.append(_parents(levels[-1]))
    return levels


def _path(levels: list[list[bytes]], index: int) -> tuple[bytes, ...]:
    path = []
    for level in levels[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return tuple(path)
