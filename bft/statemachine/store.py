"""The replicated working state: application keys, system keys, and the Merkle root over both."""

from typing import Final

from bft.statemachine.keyspace import KeySpace
from bft.statemachine.scrub import Scrub
from bft.statemachine.trie import Leaf, MerkleTrie

_APPLICATION_PREFIX: Final = b"a"
_SYSTEM_PREFIX: Final = b"s"


def application_key(key: bytes) -> bytes:
    """Return the key in the trie, for proofs, of a service's `key`."""
    return _APPLICATION_PREFIX + key


def is_application_key(key: bytes) -> bool:
    """Whether a key of the trie is the service's."""
    return key.startswith(_APPLICATION_PREFIX)


def system_key(key: bytes) -> bytes:
    """Return the key in the trie of the framework's record `key`."""
    return _SYSTEM_PREFIX + key


class Store:
    """Two key spaces under one root.

    A service is handed `application` alone, whose every key gets its prefix there: no key that a service or a client
    chooses reaches a record of the framework in `system`.
    """

    def __init__(self) -> None:
        self.application: Final = KeySpace(_APPLICATION_PREFIX)
        self.system: Final = KeySpace(_SYSTEM_PREFIX)
        self._trie = MerkleTrie()

    @property
    def trie(self) -> MerkleTrie:
        """The state as of the last checkpoint."""
        return self._trie

    def checkpoint(self) -> bytes:
        """Fold what changed since the last checkpoint into the trie and return its root; costs O(changed keys)."""
        self._trie = self._trie.update(self.application.take_changes() | self.system.take_changes())
        return self._trie.root

    def load(self, trie: MerkleTrie) -> None:
        """Replace everything by the content of `trie`; ValueError, and nothing changed, if a key is of no space."""
        application: list[tuple[bytes, bytes]] = []
        system: list[tuple[bytes, bytes]] = []
        spaces = {_APPLICATION_PREFIX: application, _SYSTEM_PREFIX: system}
        for key, value in trie.items():
            items = spaces.get(key[:1])
            if items is None:
                raise ValueError("a key belongs to no key space")
            items.append((key, value))
        self.application.load(application)
        self.system.load(system)
        self._trie = trie

    def scrub(self) -> Scrub:
        """Begin a pass over the state as of the last checkpoint, together with the values that `get` returns."""
        spaces = {_APPLICATION_PREFIX: self.application, _SYSTEM_PREFIX: self.system}

        def in_use(leaf: Leaf) -> bytes | None:
            if self._trie.leaf(leaf.key) is not leaf:  # written since: the next pass looks at what was
                return leaf.value
            return spaces[leaf.key[:1]].settled(leaf.key, leaf.value)

        return Scrub(self._trie, in_use)

    @staticmethod
    def system_record_in(trie: MerkleTrie, key: bytes) -> bytes | None:
        """Return a system record of a state that is not, or not yet, the working one."""
        return trie.get(_SYSTEM_PREFIX + key)
