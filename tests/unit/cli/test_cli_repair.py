"""`bft replica repair`: says what is wrong, sets damaged data aside, and leaves everything else alone."""

import asyncio
import json
from pathlib import Path

import pytest

from bft.codec import Limits
from bft.config import Durability, load_replica
from bft.errors import DataDirectoryError, ExitCode
from bft.storage.directory import DataDirectory, Lock
from bft.storage.log import FileLog
from bft.storage.logfile import Identity
from bft.storage.records import Entry, RecordType, retained


@pytest.fixture
def home(cluster: Path) -> Path:
    """A replica that ran and stopped."""
    open_data(cluster / "replica-1")
    return cluster / "replica-1"


def identity_of(home: Path) -> Identity:
    return Identity(load_replica(home).cluster.cluster, 1)


def open_data(home: Path) -> None:
    async def open_and_close() -> None:
        limits = Limits.of(load_replica(home).cluster.parameters)
        await DataDirectory.open(home / "data", identity_of(home), Durability.FSYNC, limits).close()

    asyncio.run(open_and_close())


def append(home: Path, *entries: Entry) -> None:
    async def append() -> None:
        log, _ = FileLog.open(home / "data", identity_of(home), retained)
        await log.append(entries)
        await log.close()

    asyncio.run(append())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[30] ^= 1
    path.write_bytes(content)


def content_of(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_replica_that_never_ran_needs_no_repair(bft, cluster):
    result = bft("replica", "repair", cluster / "replica-1")
    assert result.code == ExitCode.OK
    assert "nothing that could be damaged" in result.out
    assert (cluster / "replica-1" / "data" / "GENESIS").exists()


def test_sound_data_is_left_as_it_is(bft, home):
    before = content_of(home / "data")
    result = bft("replica", "repair", home)
    assert result.code == ExitCode.OK
    assert "nothing is damaged" in result.out
    assert {name: content for name, content in content_of(home / "data").items() if name != "LOCK"} == {
        name: content for name, content in before.items() if name != "LOCK"
    }


@pytest.mark.parametrize("name", ["base-0000000001", "log-0000000001"])
def test_a_damaged_log_is_named_and_set_aside(bft, home, name):
    damage(home / "data" / name)
    with pytest.raises(DataDirectoryError, match="bft replica repair"):
        open_data(home)
    result = bft("replica", "repair", home)
    assert result.code == ExitCode.OK
    assert f"log: damaged: {home / 'data' / name}: damaged at byte 0" in result.out
    assert "state: sound: none was saved yet" in result.out
    assert f"is in {home / 'data' / 'discarded-1'}" in result.out
    assert (home / "data" / "discarded-1" / name).exists()
    assert sorted(path.name for path in (home / "data").iterdir()) == ["LOCK", "discarded-1"]


def test_a_record_that_cannot_be_read_is_damage(bft, home):
    append(home, Entry(RecordType.PREPARED, 1, b"\x90"))
    assert "log: damaged: the log holds a record of type 2 that cannot be read" in bft("replica", "repair", home).out


def test_a_saved_state_that_cannot_be_read_is_damage(bft, home):
    damage(home / "data" / "base-0000000001")
    (home / "data" / "state" / "data.mdb").write_bytes(b"\xff" * 8192)
    found = json.loads(bft("replica", "repair", home, "--json", "--delete").out)
    assert [(part["part"], part["sound"]) for part in found["parts"]] == [("log", False), ("state", False)]
    assert found["aside"] is None
    assert [path.name for path in (home / "data").iterdir()] == ["LOCK"]


def test_foreign_data_is_refused_unless_it_is_forced(bft, home):
    toml = home.parent / "replica-2" / "replica.toml"
    toml.write_text(toml.read_text() + f'\ndata = "{home / "data"}"\n')
    result = bft("replica", "repair", toml.parent)
    assert result.code == ExitCode.DATA_DIRECTORY
    assert "belongs to replica 1" in result.err
    assert bft("replica", "repair", toml.parent, "--force").code == ExitCode.OK
    assert (home / "data" / "discarded-1" / "log-0000000001").exists()


def test_a_replica_that_runs_is_not_repaired(bft, home):
    lock = Lock.acquire(home / "data")
    result = bft("replica", "repair", home, "--force")
    lock.release()
    assert result.code == ExitCode.ENVIRONMENT
    assert "in use by process" in result.err
