"""The log: what was acknowledged is read back; a torn tail is cut; damage anywhere else is refused."""

import asyncio
import errno
import os
import threading

import pytest

from bft.errors import DataDirectoryError, StorageFailure
from bft.storage.log import FileLog
from bft.storage.logfile import Identity, encode_group
from bft.storage.records import Entry, RecordType, retained

OURS = Identity("c", 1)


def entries(*seqs: int, payload: bytes = b"payload") -> list[Entry]:
    return [Entry(RecordType.ACCEPTED, seq, payload + bytes([seq])) for seq in seqs]


def open_log(directory, identity=OURS, **options):
    return FileLog.open(directory, identity, retained, **options)


async def written(directory, *groups):
    log, _ = open_log(directory)
    for group in groups:
        await log.append(group)
    await log.close()
    (file,) = directory.glob("log-*")
    return file


async def read_back(directory):
    log, found = open_log(directory)
    await log.close()
    return found


async def test_what_was_appended_reads_back_in_order(tmp_path):
    await written(tmp_path, entries(1, 2), entries(3))
    assert await read_back(tmp_path) == entries(1, 2, 3)


async def test_a_log_is_appended_to_after_it_was_reopened(tmp_path):
    await written(tmp_path, entries(1))
    await written(tmp_path, entries(2))
    assert await read_back(tmp_path) == entries(1, 2)


async def test_appends_that_wait_share_one_sync(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    begun, disk_is_free = threading.Event(), threading.Event()
    syncs = []

    def sync(descriptor):
        syncs.append(descriptor)
        begun.set()
        disk_is_free.wait(10)

    monkeypatch.setattr(os, "fdatasync", sync)
    first = log.append(entries(1))
    await asyncio.to_thread(begun.wait, 10)
    others = [log.append(entries(seq)) for seq in range(2, 7)]
    disk_is_free.set()
    await asyncio.gather(first, *others)
    await log.close()
    assert len(syncs) == 2


async def test_nothing_is_acknowledged_before_it_is_synced(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    order = []
    real = os.fdatasync

    def sync(descriptor):
        real(descriptor)
        order.append("synced")

    monkeypatch.setattr(os, "fdatasync", sync)
    done = log.append(entries(1))
    done.add_done_callback(lambda _: order.append("acknowledged"))
    await done
    await asyncio.sleep(0)
    await log.close()
    assert order == ["synced", "acknowledged"]


@pytest.mark.parametrize("cut", [1, 5, 20, 30])
async def test_a_torn_tail_is_cut(tmp_path, cut):
    file = await written(tmp_path, entries(1), entries(2))
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert await read_back(tmp_path) == entries(1)
    await written(tmp_path, entries(3))
    assert await read_back(tmp_path) == entries(1, 3)


async def test_a_group_whose_end_never_reached_the_disk_is_cut(tmp_path):
    file = await written(tmp_path, entries(1), entries(2))
    whole = bytearray(file.read_bytes())
    whole[-20:] = bytes(20)
    file.write_bytes(whole)
    assert await read_back(tmp_path) == entries(1)


async def test_a_torn_tail_that_holds_a_clients_imitation_of_a_group_is_cut(tmp_path):
    await written(tmp_path, entries(1))
    imitations = b"".join(encode_group(number, (), 0, 0)[0] for number in range(20))
    await written(tmp_path, entries(2, payload=imitations + b"the end"))
    (path,) = tmp_path.glob("log-*")
    path.write_bytes(path.read_bytes()[:-1])
    assert await read_back(tmp_path) == entries(1)


async def test_a_flipped_bit_before_the_last_group_is_never_cut_silently(tmp_path):
    file = await written(tmp_path, entries(1), entries(2), entries(3))
    whole = file.read_bytes()
    last_group = len(whole) - 16 - 13 - 8
    for position in range(last_group):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(DataDirectoryError):
            open_log(tmp_path)


@pytest.mark.parametrize("other", [Identity("c", 2), Identity("d", 1)])
async def test_the_log_of_another_replica_or_cluster_is_refused(tmp_path, other):
    await written(tmp_path, entries(1))
    with pytest.raises(DataDirectoryError, match="belongs to replica 1 of cluster c"):
        open_log(tmp_path, other)


async def test_a_failed_sync_stops_the_log_for_good(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(StorageFailure, match="Input/output error"):
        await log.append(entries(1))
    monkeypatch.undo()
    with pytest.raises(StorageFailure):
        await log.append(entries(2))
    await log.close()


async def test_truncation_keeps_what_is_still_needed_in_a_new_generation(tmp_path):
    log, _ = open_log(tmp_path, roll_bytes=1)
    needed = [Entry(RecordType.STABLE, 3, b"stable"), Entry(RecordType.LEFT_VIEW, 2, b"left"), *entries(4, 5)]
    await log.append(entries(1, 2, 3))
    await log.append(needed)
    log.truncate(3)
    await log.append(entries(6))
    await log.close()
    (file,) = tmp_path.glob("log-*")
    assert file.name == "log-0000000002"
    log, found = open_log(tmp_path)
    await log.close()
    assert found == [*needed, *entries(6)]
    assert log.truncated == 3


async def test_a_crash_between_the_generations_loses_nothing(tmp_path):
    """Both files are there: the higher one is complete before the lower one goes."""
    first = await written(tmp_path, entries(1, 2))
    kept = first.read_bytes()
    log, _ = open_log(tmp_path, roll_bytes=1)
    log.truncate(1)
    await log.append(entries(3))
    await log.close()
    first.write_bytes(kept)
    (tmp_path / "log-0000000003.tmp").write_bytes(b"half")
    assert await read_back(tmp_path) == entries(2, 3)
    assert [path.name for path in tmp_path.glob("log-*")] == ["log-0000000002"]


def test_retention_keeps_the_highest_view_the_certificates_from_the_truncation_on_and_all_evidence():
    heads = [
        (RecordType.LEFT_VIEW, 1),
        (RecordType.LEFT_VIEW, 4),
        (RecordType.ENTERED_VIEW, 3),
        (RecordType.PREPARED, 10),
        (RecordType.PREPARED, 11),
        (RecordType.STABLE, 5),
        (RecordType.STABLE, 10),
        (RecordType.STABLE, 15),
        (RecordType.PROVEN, 0),
        (RecordType.CHECKPOINT_TAKEN, 10),
        (RecordType.FETCHED, 12),
    ]
    assert [heads[i] for i in retained(heads, 10)] == [
        (RecordType.LEFT_VIEW, 4),
        (RecordType.ENTERED_VIEW, 3),
        (RecordType.PREPARED, 11),
        (RecordType.STABLE, 10),
        (RecordType.STABLE, 15),
        (RecordType.PROVEN, 0),
        (RecordType.FETCHED, 12),
    ]
