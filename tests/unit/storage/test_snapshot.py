"""The saved state: as it was before a save or as it is after it, checked when it is read, and grown by what changed."""

import random
import re
from contextlib import closing

import lmdb
import pytest

from bft.auth import KeySigner
from bft.codec import Limits
from bft.core import messages as m
from bft.core.invariants import InvariantViolated
from bft.core.parameters import Parameters
from bft.errors import DataDirectoryError, StorageFailure
from bft.statemachine.trie import MerkleTrie
from bft.storage import snapshot
from bft.storage.logfile import Identity
from bft.storage.snapshot import SnapshotStore
from crypto.keys import PrivateKey
from crypto.signatures import Domain

LIMITS = Limits.of(Parameters(n=4))
SIGNER = KeySigner(PrivateKey.from_seed(bytes(31) + b"\1"), Domain("c", 0))
EMPTY = MerkleTrie()
FIRST = EMPTY.update({b"k%d" % i: b"v" * i for i in range(50)})
SECOND = FIRST.update({b"k1": b"changed", b"k2": None, b"new": b""})


def certificate(seq: int, state: MerkleTrie) -> m.CheckpointCertificate:
    return m.CheckpointCertificate(tuple(SIGNER.sign(m.Checkpoint(seq, state.root, i)) for i in range(3)))


def opened(path, replica: int = 0) -> SnapshotStore:
    return SnapshotStore(path, Identity("c", replica), LIMITS)


@pytest.fixture
def store(tmp_path):
    store = opened(tmp_path)
    yield store
    store.close()


def save(store: SnapshotStore, seq: int, state: MerkleTrie, since: MerkleTrie | None = None) -> None:
    base = EMPTY if since is None else since
    root = None if since is None else since.root
    store.save(certificate(seq, state), lambda: state.changes_since(base), since=root)


def content(store: SnapshotStore) -> tuple[m.CheckpointCertificate, dict[bytes, bytes]]:
    saved = store.load()
    assert saved is not None
    return saved.certificate, dict(saved.items)


def test_a_new_store_holds_nothing(store):
    assert store.load() is None


def test_what_was_saved_is_read_in_the_order_of_the_paths_with_its_certificate(store):
    save(store, 4, FIRST)
    saved = store.load()
    assert saved.certificate == certificate(4, FIRST)
    assert list(saved.items) == list(FIRST.items())


def test_a_save_writes_what_changed_and_leaves_the_rest(store, tmp_path):
    save(store, 4, FIRST)
    save(store, 8, SECOND, since=FIRST)
    store.close()
    again = opened(tmp_path)
    assert content(again) == (certificate(8, SECOND), dict(SECOND.items()))
    save(again, 12, FIRST, since=SECOND)
    assert content(again) == (certificate(12, FIRST), dict(FIRST.items()))
    again.close()


def test_a_save_from_nothing_replaces_everything(store):
    save(store, 4, FIRST)
    other = EMPTY.update({b"other": b"1"})
    save(store, 8, other)
    assert content(store)[1] == {b"other": b"1"}


def test_changes_since_a_state_that_is_not_the_saved_one_are_our_own_bug(store):
    save(store, 4, FIRST)
    with pytest.raises(InvariantViolated):
        save(store, 8, FIRST, since=SECOND)


def test_an_interrupted_save_leaves_the_state_before_it(store, tmp_path):
    def interrupted():
        yield b"k3", b"half"
        raise KeyboardInterrupt

    save(store, 4, FIRST)
    with pytest.raises(KeyboardInterrupt):
        store.save(certificate(8, SECOND), interrupted, since=FIRST.root)
    assert content(store) == (certificate(4, FIRST), dict(FIRST.items()))


def test_the_map_grows_with_the_state(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "_MAP_BYTES", 1 << 16)
    store = opened(tmp_path)
    large = EMPTY.update({b"k%d" % i: bytes(10_000) for i in range(100)})
    save(store, 4, large)
    assert content(store)[1] == dict(large.items())
    store.close()


@pytest.mark.parametrize("error", [lmdb.DiskError("No space left on device"), lmdb.Error("Input/output error")])
def test_a_full_or_failing_disk_is_a_storage_failure(store, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(store, "_write", fail)
    with pytest.raises(StorageFailure, match=r"(No space|Input/output).*the replica stops"):
        save(store, 4, FIRST)


def test_a_directory_that_cannot_be_written_is_a_storage_failure(tmp_path):
    with pytest.raises(StorageFailure, match="No such file"):
        opened(tmp_path / "gone")


def test_no_flipped_bit_passes_for_the_certified_state(tmp_path):
    store = opened(tmp_path)
    save(store, 4, FIRST)
    save(store, 8, SECOND, since=FIRST)
    store.close()
    file = tmp_path / "state" / "data.mdb"
    whole = file.read_bytes()
    detected = 0
    for position in random.Random(1).sample([at for at, byte in enumerate(whole) if byte], 40):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        try:
            with closing(opened(tmp_path)) as store:
                found, items = content(store)
        except DataDirectoryError as error:
            assert "bft replica repair" in str(error)  # noqa: PT017 (the other outcomes are judged below)
            detected += 1
            continue
        # In a page that is free or in a root page that an older one stands in for, it does no harm.
        if MerkleTrie().update(items).root == found.root:
            assert found in {certificate(4, FIRST), certificate(8, SECOND)}
        else:
            detected += 1
    assert detected > 5


def test_the_state_of_another_replica_is_refused(store, tmp_path):
    save(store, 4, FIRST)
    store.close()
    other = opened(tmp_path, replica=1)
    with pytest.raises(DataDirectoryError, match="belongs to replica 0"):
        other.load()
    other.close()


def test_a_newer_format_is_refused(store, monkeypatch):
    monkeypatch.setattr(snapshot, "FORMAT_VERSION", 2)
    save(store, 4, FIRST)
    monkeypatch.undo()
    with pytest.raises(DataDirectoryError, match="written in format 2, this version reads 1"):
        store.load()


def flip_last_byte_of(path, item: bytes) -> None:
    """In every place where it stands: LMDB leaves old bytes in the free part of a page that it split."""
    file = path / "state" / "data.mdb"
    content = bytearray(file.read_bytes())
    for found in re.finditer(re.escape(item), bytes(content)):
        content[found.end() - 1] ^= 1
    file.write_bytes(content)


def test_what_was_saved_and_read_from_the_disk_again_is_sound(store):
    assert store.verify() is None  # nothing is saved
    save(store, 4, FIRST)
    assert store.verify() is None
    save(store, 8, SECOND, since=FIRST)
    assert store.verify() is None
    assert content(store) == (certificate(8, SECOND), dict(SECOND.items()))


def test_a_bit_that_flips_on_disk_is_found_and_what_is_written_anew_is_saved_as_before(store, tmp_path):
    save(store, 4, FIRST)
    flip_last_byte_of(tmp_path, b"k42" + b"v" * 42)
    assert "its root is" in store.verify()
    store.rewrite(certificate(4, FIRST), lambda: FIRST.changes_since(EMPTY))
    assert store.verify() is None
    save(store, 8, SECOND, since=FIRST)
    store.close()
    again = opened(tmp_path)
    assert content(again) == (certificate(8, SECOND), dict(SECOND.items()))
    again.close()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("page", range(8))
def test_a_page_that_is_lost_is_found(store, tmp_path, page):
    large = EMPTY.update({b"k%d" % i: bytes(1000) for i in range(50)})
    save(store, 4, large)
    file = tmp_path / "state" / "data.mdb"
    whole = bytearray(file.read_bytes())
    whole[page << 12 : (page + 1) << 12] = b"\xa5" * 4096
    file.write_bytes(whole)
    if store.verify() is None:  # a page that is free, or the older of the two roots
        assert content(store) == (certificate(4, large), dict(large.items()))
    state = EMPTY.update({b"k": b"v"})
    store.rewrite(certificate(8, state), lambda: state.changes_since(EMPTY))
    assert content(store) == (certificate(8, state), dict(state.items()))


def test_a_file_that_was_to_take_its_place_is_gone_after_the_next_start(store, tmp_path):
    save(store, 4, FIRST)
    store.close()
    (tmp_path / "state.tmp").mkdir()
    (tmp_path / "state.tmp" / "data.mdb").write_bytes(b"half")
    again = opened(tmp_path)
    assert content(again) == (certificate(4, FIRST), dict(FIRST.items()))
    again.close()
    assert not (tmp_path / "state.tmp").exists()
