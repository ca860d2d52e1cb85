"""The data directory: begun by init, used by one process, and nothing is started from lost data."""

import pytest

from bft.auth import KeySigner
from bft.codec import Limits
from bft.config import Durability
from bft.core import effects as fx
from bft.core import messages as m
from bft.core.parameters import Parameters
from bft.errors import DataDirectoryError, EnvironmentFailure
from bft.storage.directory import GENESIS, DataDirectory, begin
from bft.storage.logfile import Identity
from bft.storage.records import encode_record
from crypto.keys import PrivateKey
from crypto.signatures import Domain

LIMITS = Limits.of(Parameters(n=4))
OURS = Identity("c", 0)
SIGNER = KeySigner(PrivateKey.from_seed(bytes(31) + b"\1"), Domain("c", 0))
ROOT = bytes(range(32))
ITEMS = [(b"key", b"value")]


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


async def write(path, *records, snapshot: int | None = None):
    data = open_directory(path)
    await data.log.append([encode_record(record) for record in records])
    if snapshot is not None:
        data.snapshots.save(snapshot, ROOT, ITEMS)
    await data.close()


async def recovered(path):
    data = open_directory(path)
    await data.close()
    return data.recovered


async def test_a_new_replica_starts_from_genesis_and_consumes_the_marker(path):
    found = await recovered(path)
    assert (found.records, found.certificate, found.items) == ([], m.GENESIS, None)
    assert not (path / GENESIS).exists()


async def test_a_replica_that_lost_its_log_does_not_start(path):
    await write(path, commit(1))
    for file in path.glob("log-*"):
        file.unlink()
    with pytest.raises(DataDirectoryError, match="its data is lost"):
        open_directory(path)


async def test_a_memory_replica_starts_once(path):
    data = open_directory(path, Durability.MEMORY)
    await data.log.append([encode_record(commit(1))])
    await data.close()
    with pytest.raises(DataDirectoryError, match="its data is lost"):
        open_directory(path, Durability.MEMORY)


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
        open_directory(tmp_path / "none")


async def test_without_a_snapshot_every_record_is_given_back(path):
    await write(path, commit(1), commit(2))
    assert (await recovered(path)).records == [commit(1), commit(2)]


async def test_recovery_starts_from_the_latest_snapshot_that_a_stable_certificate_covers(path):
    await write(path, commit(1), fx.Stable(stable(4)), commit(5), snapshot=4)
    await write(path, commit(9), snapshot=8)
    found = await recovered(path)
    assert found.certificate == stable(4)
    assert found.items == ITEMS
    assert found.records == [fx.Stable(stable(4)), commit(5), commit(9)]


async def test_a_snapshot_that_differs_from_its_certificate_is_refused(path):
    await write(path, fx.Stable(stable(4, bytes(32))), snapshot=4)
    with pytest.raises(DataDirectoryError, match="not the state that the stable checkpoint certifies"):
        open_directory(path)


async def test_a_restored_state_with_another_root_is_refused(path):
    await write(path, fx.Stable(stable(4)), snapshot=4)
    found = await recovered(path)
    found.check_root(ROOT)
    with pytest.raises(DataDirectoryError, match="the snapshot is damaged"):
        found.check_root(bytes(32))


async def test_a_truncated_log_without_its_snapshot_is_refused(path, monkeypatch):
    data = open_directory(path)
    monkeypatch.setattr(data.log, "_next_roll", 0)
    data.snapshots.save(4, ROOT, ITEMS)
    await data.log.append([encode_record(fx.Stable(stable(4))), encode_record(commit(5))])
    data.log.truncate(4)
    await data.log.append([encode_record(commit(6))])
    await data.close()
    for snapshot in data.snapshots.found():
        snapshot.path.unlink()
    with pytest.raises(DataDirectoryError, match="the snapshot at 4 or later is lost"):
        open_directory(path)
