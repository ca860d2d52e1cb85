"""Snapshots: whole or not there, checked when they are read."""

import pytest

from bft.errors import DataDirectoryError, StorageFailure
from bft.storage.logfile import Identity
from bft.storage.snapshot import SnapshotStore

ITEMS = [(b"k%d" % i, b"v" * i) for i in range(50)]
ROOT = bytes(range(32))


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(tmp_path, Identity("c", 0))


def test_a_saved_state_loads_again(store):
    store.save(128, ROOT, iter(ITEMS))
    (snapshot,) = store.found()
    assert snapshot.seq == 128
    assert store.load(snapshot) == (ROOT, ITEMS)


def test_any_flipped_bit_is_detected(store):
    store.save(1, ROOT, ITEMS[:3])
    (snapshot,) = store.found()
    whole = snapshot.path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        snapshot.path.write_bytes(damaged)
        with pytest.raises(DataDirectoryError):
            store.load(snapshot)


def test_a_snapshot_cut_short_is_detected(store):
    store.save(1, ROOT, ITEMS[:3])
    (snapshot,) = store.found()
    whole = snapshot.path.read_bytes()
    for size in range(0, len(whole), 7):
        snapshot.path.write_bytes(whole[:size])
        with pytest.raises(DataDirectoryError):
            store.load(snapshot)


def test_an_interrupted_save_leaves_no_snapshot(store):
    def interrupted():
        yield ITEMS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.save(1, ROOT, interrupted())
    assert store.found() == []


def test_a_full_disk_is_a_storage_failure(tmp_path):
    store = SnapshotStore(tmp_path / "gone", Identity("c", 0))
    with pytest.raises(StorageFailure, match="No such file"):
        store.save(1, ROOT, ITEMS)


def test_pruning_keeps_the_one_to_start_from_its_predecessor_and_all_later_ones(store):
    for seq in (1, 2, 3, 4, 5):
        store.save(seq, ROOT, ITEMS[:1])
    store.prune(4)
    assert [snapshot.seq for snapshot in store.found()] == [5, 4, 3]


def test_the_snapshot_of_another_replica_is_refused(store, tmp_path):
    store.save(1, ROOT, ITEMS)
    other = SnapshotStore(tmp_path, Identity("c", 1))
    with pytest.raises(DataDirectoryError, match="belongs to replica 0"):
        other.load(other.found()[0])
