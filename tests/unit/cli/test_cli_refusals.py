"""Data that no replica must start from: what `bft replica run` and `repair` say of it, and how they end."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lmdb
import pytest

from bft.auth import KeySigner
from bft.codec import Limits
from bft.config import Durability, load_replica
from bft.core import effects as fx
from bft.core import messages as m
from bft.errors import ExitCode
from bft.statemachine.trie import MerkleTrie
from bft.storage import logfile, segments, snapshot
from bft.storage.directory import DataDirectory
from bft.storage.log import FileLog
from bft.storage.logfile import PAGE, Identity
from bft.storage.records import encode_record, retained
from crypto.keys import PrivateKey
from crypto.signatures import Domain

SEGMENT_BYTES: Final = 16 * PAGE
VALUE: Final = b"a value that is easily found" * 20
STATE: Final = MerkleTrie().update({b"sk%d" % number: VALUE for number in range(100)})
SIGNER: Final = KeySigner(PrivateKey.from_seed(bytes(31) + b"\1"), Domain("c", 0))
SAVED_AT: Final = 8


def write(home: Path, identity: Identity | None = None) -> None:
    """Data as a replica leaves it: a log of several segments, and the state of a stable checkpoint."""
    config = load_replica(home)
    identity = identity or Identity(config.cluster.cluster, config.id)
    certificate = m.CheckpointCertificate(
        tuple(SIGNER.sign(m.Checkpoint(SAVED_AT, STATE.root, replica)) for replica in range(3))
    )

    async def write_all() -> None:
        log, _ = FileLog.open(home / "data", identity, retained, segment_bytes=SEGMENT_BYTES)
        for seq in range(1, 3 * SEGMENT_BYTES // PAGE):
            commit = SIGNER.sign(m.Commit(0, SAVED_AT + seq, STATE.root, identity.replica))
            await log.append([encode_record(fx.Committed((commit,)))])
        await log.close()
        limits = Limits.of(config.cluster.parameters)
        data = DataDirectory.open(home / "data", identity, Durability.FSYNC, limits)
        assert data.snapshots is not None
        data.snapshots.save(certificate, lambda: STATE.changes_since(MerkleTrie()), since=None)
        await data.close()

    asyncio.run(write_all())


def start(home: Path) -> tuple[int, list[str]]:
    """As a service manager does; how it ended, and what it said."""
    command = [sys.executable, "-m", "bft.node", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stderr.splitlines()


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.fixture
def home(cluster: Path) -> Path:
    write(cluster / "replica-1")
    return cluster / "replica-1"


def log_file(home: Path) -> Path:
    """The oldest segment."""
    return segments.numbered(home / "data", segments.SEGMENT)[0][1]


def in_the_oldest_segment(home: Path) -> None:
    flip(log_file(home), 3 * PAGE + 60)


def in_a_record_header(home: Path) -> None:
    flip(log_file(home), 2 * PAGE + logfile._GROUP.size + 4)


def in_a_group_header(home: Path) -> None:
    flip(log_file(home), 2 * PAGE + 12)


def in_a_segment_header(home: Path) -> None:
    flip(log_file(home), 30)


def in_the_saved_state(home: Path) -> None:
    """In every place where the item stands: LMDB leaves old bytes in the free part of a page that it split."""
    file = home / "data" / "state" / "data.mdb"
    for found in re.finditer(b"sk7" + VALUE, file.read_bytes()):
        flip(file, found.end() - 1)


def in_the_head_of_the_saved_state(home: Path) -> None:
    with lmdb.open(str(home / "data" / "state"), max_dbs=2, lock=False) as env:
        heads = env.open_db(b"head")
        with env.begin(write=True) as transaction:
            head = bytearray(transaction.get(b"head", db=heads) or b"")
            head[20] ^= 1
            transaction.put(b"head", bytes(head), db=heads)


def a_segment_that_is_gone(home: Path) -> None:
    segments.numbered(home / "data", segments.SEGMENT)[1][1].unlink()


@pytest.mark.parametrize(
    ("damage", "part", "says"),
    [
        (in_the_oldest_segment, "log", f"damaged at byte {3 * PAGE}"),
        (in_a_record_header, "log", f"damaged at byte {2 * PAGE}"),
        (in_a_group_header, "log", f"damaged at byte {2 * PAGE}"),
        (in_a_segment_header, "log", "damaged at byte 0"),
        (in_the_saved_state, "state", "its root is"),
        (in_the_head_of_the_saved_state, "state", "the checksum of its head does not match"),
        (a_segment_that_is_gone, "log", "missing"),
    ],
)
def test_damage_is_named_never_cut_away_and_repaired_on_demand(
    bft: Callable[..., Any], home: Path, damage: Callable[[Path], None], part: str, says: str
) -> None:
    damage(home)
    code, (line,) = start(home)
    assert code == ExitCode.DATA_DIRECTORY
    assert line.startswith("error: ")
    assert says in line
    assert "bft replica repair" in line
    repaired = bft("replica", "repair", home)
    assert repaired.code == ExitCode.OK
    (damaged,) = [line for line in repaired.out.splitlines() if ": damaged: " in line]
    assert damaged.startswith(f"{part}: damaged: ")
    assert says in damaged
    assert f"is in {home / 'data' / 'discarded-1'}" in repaired.out
    assert not FileLog.exists(home / "data")


def as_another_replica(home: Path, _: pytest.MonkeyPatch) -> None:
    write(home, Identity(load_replica(home).cluster.cluster, 2))


def as_another_cluster(home: Path, _: pytest.MonkeyPatch) -> None:
    write(home, Identity("elsewhere", 1))


def as_a_newer_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(logfile, "FORMAT_VERSION", logfile.FORMAT_VERSION + 1)
        write(home)


def with_the_state_of_another_replica(home: Path, _: pytest.MonkeyPatch) -> None:
    other = home.parent / "replica-2"
    write(other)
    write(home)
    (other / "data" / "state").replace(home.parent / "state")
    (home / "data" / "state").replace(home.parent / "own state")
    (home.parent / "state").replace(home / "data" / "state")


def with_the_state_of_a_newer_version(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer:
        newer.setattr(snapshot, "FORMAT_VERSION", snapshot.FORMAT_VERSION + 1)
        write(home)


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (as_another_replica, "belongs to replica 2"),
        (as_another_cluster, "belongs to replica 1 of cluster elsewhere"),
        (as_a_newer_version, "run the one that wrote it"),
        (with_the_state_of_another_replica, "belongs to replica 2"),
        (with_the_state_of_a_newer_version, "run the one that wrote it"),
    ],
)
def test_data_of_others_is_refused_and_not_thrown_away_without_force(
    bft: Callable[..., Any],
    cluster: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: Callable[[Path, pytest.MonkeyPatch], None],
    says: str,
) -> None:
    home = cluster / "replica-1"
    written(home, monkeypatch)
    refused = bft("replica", "repair", home)
    for code, lines in (start(home), (refused.code, refused.err.splitlines())):
        assert code == ExitCode.DATA_DIRECTORY
        assert len(lines) == 1
        assert says in lines[0]
    assert FileLog.exists(home / "data")
    assert bft("replica", "repair", home, "--force").code == ExitCode.OK
    assert not FileLog.exists(home / "data")
