"""The data directory: begun by init, used by one process, and nothing is started from lost data."""

import shutil
from dataclasses import replace

import pytest

from bft.auth import KeySigner
from bft.codec import Limits
from bft.config import Durability
from bft.core import effects as fx
from bft.core import messages as m
from bft.core.parameters import Parameters
from bft.errors import DataDirectoryError, EnvironmentFailure
from bft.statemachine.trie import MerkleTrie
from bft.storage.directory import GENESIS, LOST, DataDirectory, begin
from bft.storage.log import FileLog
from bft.storage.logfile import PAGE, Identity
from bft.storage.records import encode_record, retained
from crypto.keys import PrivateKey
from crypto.signatures import Domain

LIMITS = Limits.of(Parameters(n=4))
OURS = Identity("c", 0)
SIGNER = KeySigner(PrivateKey.from_seed(bytes(31) + b"\1"), Domain("c", 0))
ITEMS = [(b"key", b"value")]
ROOT = MerkleTrie().update(dict(ITEMS)).root


def open_directory(path, durability=Durability.FSYNC):
    return DataDirectory.open(path, OURS, durability, LIMITS)


def stable(seq: int, root: bytes = ROOT) -> m.CheckpointCertificate:
    return m.CheckpointCertificate(tuple(SIGNER.sign(m.Checkpoint(seq, root, i)) for i in range(3)))


def commit(seq: int) -> fx.Committed:
    return fx.Committed((SIGNER.sign(m.Commit(0, seq, ROOT, 0)),))


@pytest.fixture
def path(tmp_path):
    begin(tmp_path / "data")
    return tmp_path / "data"


async def write(path, *records, saved: m.CheckpointCertificate | None = None):
    data = open_directory(path)
    await data.log.append([encode_record(record) for record in records])
    if saved is not None:
        data.snapshots.save(saved, lambda: ITEMS, since=None)
    await data.close()


async def recovered(path):
    data = open_directory(path)
    items = None if data.recovered.items is None else list(data.recovered.items)
    await data.close()
    return replace(data.recovered, items=items)


async def test_a_new_replica_starts_from_genesis_and_consumes_the_marker(path):
    found = await recovered(path)
    assert (found.records, found.certificate, found.items) == ([], m.GENESIS, None)
    assert not (path / GENESIS).exists()


async def test_only_the_start_that_consumes_the_marker_is_the_first(path):
    assert (await recovered(path)).first
    again = await recovered(path)
    assert (again.first, again.amnesiac) == (False, False)


async def test_a_marker_beside_records_makes_no_first_start(path):
    """An operator may put the marker back; what the log holds was said all the same."""
    await write(path, commit(1))
    (path / GENESIS).touch()
    assert not (await recovered(path)).first


async def test_a_replica_that_lost_its_log_starts_as_an_amnesiac(path):
    await write(path, commit(1))
    for file in (*path.glob("log-*"), *path.glob("base-*")):
        file.unlink()
    assert (await recovered(path)).amnesiac


async def test_a_deleted_directory_starts_as_an_amnesiac(path):
    await write(path, commit(1))
    shutil.rmtree(path)
    found = await recovered(path)
    assert (found.first, found.amnesiac, list(found.records)) == (False, True, [])


async def test_amnesia_is_remembered_before_the_first_record_and_by_the_record_after_it(path):
    """A crash right after the start leaves an empty log, which must not look like a replica that said nothing."""
    (path / GENESIS).unlink()
    assert (await recovered(path)).amnesiac
    assert (await recovered(path)).amnesiac
    await write(path, fx.Silenced(0, 0))
    found = await recovered(path)
    assert (found.amnesiac, found.records) == (False, [fx.Silenced(0, 0)])
    assert not (path / LOST).exists()


async def test_a_memory_replica_is_an_amnesiac_from_its_second_start_on(path):
    for first in (True, False, False):
        data = open_directory(path, Durability.MEMORY)
        await data.log.append([encode_record(commit(1))])
        await data.close()
        assert (data.recovered.first, data.recovered.amnesiac) == (first, not first)


async def test_memory_does_not_ignore_a_log_that_is_there(path):
    """It would forget the votes in it, and could contradict them."""
    data = open_directory(path)
    await data.log.append([encode_record(commit(1))])
    await data.close()
    with pytest.raises(DataDirectoryError, match="would ignore"):
        open_directory(path, Durability.MEMORY)


async def test_two_processes_cannot_use_one_directory(path):
    data = open_directory(path)
    with pytest.raises(EnvironmentFailure, match="in use by process"):
        open_directory(path)
    await data.close()
    await recovered(path)


def test_a_directory_that_is_not_there_is_a_failure_of_the_environment(tmp_path):
    with pytest.raises(EnvironmentFailure, match="no such directory"):
        open_directory(tmp_path / "none" / "data")


async def test_without_a_snapshot_every_record_is_given_back(path):
    await write(path, commit(1), commit(2))
    assert (await recovered(path)).records == [commit(1), commit(2)]


async def test_recovery_starts_from_the_saved_state_with_the_certificate_that_was_saved_with_it(path):
    await write(path, commit(1), commit(5), saved=stable(4))
    found = await recovered(path)
    assert found.certificate == stable(4)
    assert found.items == ITEMS
    assert found.records == [commit(5)]


async def test_a_restored_state_with_another_root_is_refused(path):
    await write(path, saved=stable(4))
    found = await recovered(path)
    found.check_root(ROOT)
    with pytest.raises(DataDirectoryError, match=r"damaged: its root is 0000000000000000.*bft replica repair"):
        found.check_root(bytes(32))


async def test_a_truncated_log_without_its_snapshot_is_refused(path):
    log, _ = FileLog.open(path, OURS, retained, segment_bytes=8 * PAGE)
    await log.append([encode_record(fx.Stable(stable(4)))])
    for _ in range(40):
        await log.append([encode_record(commit(4))])
    log.truncate(4)
    await log.close()
    with pytest.raises(DataDirectoryError, match="the saved state of 4 or later is lost"):
        open_directory(path)


async def test_the_snapshots_of_an_older_version_are_refused(path):
    await write(path, commit(1))
    (path / "snapshot-00000000000000000004").touch()
    with pytest.raises(DataDirectoryError, match="format of an older version: run `bft replica repair`"):
        open_directory(path)
