"""The log: what was acknowledged is read back; a torn tail is cut; damage anywhere else is refused."""

import asyncio
import errno
import os
import re
import threading
import time

import pytest

from bft.errors import DataDirectoryError, ExitCode, StorageFailure
from bft.storage import files
from bft.storage import log as log_module
from bft.storage.log import FileLog
from bft.storage.logfile import PAGE, GroupKind, Identity, Key, encode_group, read_content
from bft.storage.records import Entry, RecordType, retained

OURS = Identity("c", 1)
SMALL = 8 * PAGE


def entries(*seqs: int, payload: bytes = b"payload") -> list[Entry]:
    return [Entry(RecordType.ACCEPTED, seq, payload + bytes([seq])) for seq in seqs]


def open_log(directory, identity=OURS, **options):
    return FileLog.open(directory, identity, retained, **options)


async def written(directory, *groups, sealed: bool = True):
    """The segment that holds these groups."""
    log, _ = open_log(directory)
    for group in groups:
        await log.append(group)
    await log.close()
    file = directory / "log-0000000001"
    if not sealed:  # as a crash leaves it that comes soon enough
        content = read_content(file.read_bytes(), file, OURS)
        with file.open("r+b") as written_to:
            written_to.seek(content.last)
            written_to.write(bytes(PAGE))
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
        if threading.current_thread().name == "log":
            syncs.append(descriptor)
            begun.set()
            disk_is_free.wait(10)

    monkeypatch.setattr(files, "sync", sync)
    first = log.append(entries(1))
    await asyncio.to_thread(begun.wait, 10)
    others = [log.append(entries(seq)) for seq in range(2, 7)]
    disk_is_free.set()
    await asyncio.gather(first, *others)
    shared = len(syncs)
    await log.close()
    assert shared == 2


async def test_nothing_is_acknowledged_before_it_is_synced(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    order = []
    real = files.sync

    def sync(descriptor):
        real(descriptor)
        if threading.current_thread().name == "log":
            order.append("synced")

    monkeypatch.setattr(files, "sync", sync)
    done = log.append(entries(1))
    done.add_done_callback(lambda _: order.append("acknowledged"))
    await done
    await asyncio.sleep(0)
    await log.close()
    assert order[:2] == ["synced", "acknowledged"]


def threads_of_syncs(monkeypatch, *, then=lambda: None) -> list[str]:
    """In which threads records are synced from now on, "log" is the writer's; `then` stands in for the disk."""
    threads = []

    def sync(_):
        threads.append("log" if threading.current_thread().name == "log" else "own")
        then()

    monkeypatch.setattr(files, "sync", sync)
    return threads


async def test_who_is_idle_writes_in_its_own_thread_once_the_disk_is_known_to_be_fast(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    await asyncio.to_thread(log._next.result)
    threads = threads_of_syncs(monkeypatch)
    monkeypatch.setattr(log_module, "INLINE_SYNC_NS_MAX", 10**12)
    for seq, idle in ((1, False), (2, True), (3, True)):
        done = log.append(entries(seq), idle=idle)
        assert done.done() == idle
        await done
        await asyncio.sleep(0)
    assert threads[:3] == ["log", "own", "own"]
    await log.close()
    assert await read_back(tmp_path) == entries(1, 2, 3)


async def test_a_slow_disk_is_left_to_the_writer_thread(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    await asyncio.to_thread(log._next.result)
    threads = threads_of_syncs(monkeypatch, then=lambda: time.sleep(2 * log_module.INLINE_SYNC_NS_MAX / 1e9))
    for seq in range(1, 9):
        await log.append(entries(seq), idle=True)
    assert set(threads) == {"log"}
    await log.close()


async def test_who_is_idle_does_not_overtake_what_the_writer_thread_has_in_hand(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    monkeypatch.setattr(log_module, "INLINE_SYNC_NS_MAX", 10**12)
    waiting = [log.append(entries(seq), idle=seq % 2 == 0) for seq in range(1, 7)]
    log.truncate(0)
    waiting.append(log.append(entries(7), idle=True))
    await asyncio.gather(*waiting)
    await log.close()
    assert await read_back(tmp_path) == entries(*range(1, 8))


async def test_a_failed_sync_in_the_callers_own_thread_stops_the_log_and_nothing_is_written_after_it(
    tmp_path, monkeypatch
):
    log, _ = open_log(tmp_path)
    monkeypatch.setattr(log_module, "INLINE_SYNC_NS_MAX", 10**12)
    await log.append(entries(1))
    await asyncio.sleep(0)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync", fail)
    failed = log.append(entries(2), idle=True)
    assert isinstance(failed.exception(), StorageFailure)
    assert (await log.failed).exit_code == ExitCode.STORAGE
    monkeypatch.undo()
    written = log.bytes_written
    log.truncate(1)
    with pytest.raises(StorageFailure):
        await log.append(entries(3), idle=True)
    await log.close()
    assert log.bytes_written == written


def end_of_records(file) -> int:
    """Where the last record of the file ends."""
    return max(p.offset + p.length for p in read_content(file.read_bytes(), file, OURS).positions)


@pytest.mark.parametrize("cut", [1, 5, 20, 40, 60])
async def test_a_torn_tail_is_cut(tmp_path, cut):
    file = await written(tmp_path, entries(1), entries(2), sealed=False)
    whole, end = file.read_bytes(), end_of_records(file)
    file.write_bytes(whole[: end - cut] + bytes(len(whole) - end + cut))
    assert await read_back(tmp_path) == entries(1)
    await written(tmp_path, entries(3))
    assert await read_back(tmp_path) == entries(1, 3)


async def test_a_torn_tail_that_holds_a_clients_imitation_of_a_group_is_cut(tmp_path):
    """It knows everything but the salt."""
    imitation, _ = encode_group(Key(0, 0), GroupKind.DATA, 2, (), 0)
    to_the_page = bytes(PAGE - 32 - 13)
    payload = to_the_page + imitation * 3
    file = await written(tmp_path, entries(1), entries(2, payload=payload), sealed=False)
    damaged = bytearray(file.read_bytes())
    assert damaged.count(imitation) == 3
    assert damaged.index(imitation) % PAGE == 0
    damaged[end_of_records(file) - 1] ^= 1
    file.write_bytes(damaged)
    assert await read_back(tmp_path) == entries(1)


async def test_damage_to_the_last_group_is_found_once_the_log_was_idle(tmp_path):
    """A seal follows it, so it cannot be a write that the crash interrupted."""
    log, _ = open_log(tmp_path)
    await log.append(entries(1))
    file = tmp_path / "log-0000000001"
    async with asyncio.timeout(30):
        while content_of(file).groups == 1:  # noqa: ASYNC110 - what is waited for happens on the disk
            await asyncio.sleep(0.01)
    damaged = bytearray(file.read_bytes())
    damaged[end_of_records(file) - 1] ^= 1
    await log.close()
    file.write_bytes(damaged)
    with pytest.raises(DataDirectoryError, match=f"{file.name}: damaged at byte {PAGE}.*bft replica repair"):
        open_log(tmp_path)


async def test_an_old_use_of_a_segment_leaves_no_records_in_the_new_one(tmp_path):
    log, _ = open_log(tmp_path, segment_bytes=4 * PAGE)
    for seq in range(1, 60):
        await log.append(entries(seq))
        log.truncate(seq - 1)
    await log.close()
    files = sorted(tmp_path.glob("log-*"))
    assert len(files) < 10
    stale = [file for file in files if file.read_bytes().count(b"payload") > len(content_of(file).positions)]
    assert stale, "no segment was used twice: this test shows nothing"
    found = await read_back(tmp_path)
    assert found == entries(*range(found[0].seq, 60))


def content_of(file):
    return read_content(file.read_bytes(), file, OURS)


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


async def test_truncation_carries_over_what_is_still_needed_and_uses_the_segments_again(tmp_path):
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    needed = [Entry(RecordType.STABLE, 3, b"stable"), Entry(RecordType.LEFT_VIEW, 2, b"left")]
    await log.append(needed)
    for seq in range(1, 40):
        await log.append(entries(seq))
    log.truncate(38)
    await log.append(entries(40))
    await log.close()
    log, found = open_log(tmp_path, segment_bytes=SMALL)
    await log.close()
    assert [entry for entry in found if entry not in entries(*range(1, 39))] == [needed[1], *entries(39, 40)]
    assert log.truncated == 38
    assert len(list(tmp_path.glob("base-*"))) == 1
    assert len(list(tmp_path.glob("log-*"))) <= 3
    assert list(tmp_path.glob("spare-*"))


async def test_segments_that_are_needed_stay(tmp_path):
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    for seq in range(1, 40):
        await log.append(entries(seq, payload=bytes(4000)))
    log.truncate(1)
    await log.close()
    assert await read_back(tmp_path) == entries(*range(1, 40), payload=bytes(4000))
    assert [path.name for path in tmp_path.glob("base-*")] == ["base-0000000001"]


async def test_a_group_larger_than_a_segment_is_written_and_read_back(tmp_path):
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    groups = [entries(1), entries(2, payload=bytes(5 * SMALL)), entries(3), entries(4, 5, payload=bytes(SMALL))]
    for group in groups:
        await log.append(group)
    await log.close()
    assert await read_back(tmp_path) == [entry for group in groups for entry in group]


async def test_appends_that_wait_are_more_than_a_segment_holds(tmp_path):
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    await asyncio.gather(*[log.append(entries(seq, payload=bytes(3000))) for seq in range(1, 50)])
    await log.close()
    assert await read_back(tmp_path) == entries(*range(1, 50), payload=bytes(3000))


async def test_a_crash_before_the_old_files_are_gone_loses_nothing(tmp_path):
    """The base is complete before what it replaces goes."""
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    for seq in range(1, 40):
        await log.append(entries(seq))
    kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
    log.truncate(38)
    await log.close()
    expected = await read_back(tmp_path)
    (base,) = tmp_path.glob("base-*")
    for path, content in kept.items():
        if path.name < base.name or path.name < base.name.replace("base", "log"):
            path.write_bytes(content)
    (tmp_path / "base-0000009999.tmp").write_bytes(b"half")
    assert await read_back(tmp_path) == expected
    assert list(tmp_path.glob("base-*")) == [base]


async def append_until_it_fails(log, says: str) -> int:
    """The number of the group that failed, counted from 1."""
    for seq in range(1, 250):
        failure = (await asyncio.gather(log.append(entries(seq)), return_exceptions=True))[0]
        if failure is not None:
            assert isinstance(failure, StorageFailure)
            assert re.search(says, str(failure))
            return seq
    raise AssertionError("it did not fail")


async def test_a_full_disk_stops_the_log_only_when_the_segment_is_full(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path, segment_bytes=SMALL)
    await log.append(entries(1))
    real = files.create

    def fail(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "create", fail)
    written = await append_until_it_fails(log, r"No space left on device: .*, then start it again")
    assert written > 2
    monkeypatch.setattr(files, "create", real)
    assert (await log.failed).exit_code == ExitCode.STORAGE
    await log.close()
    log, found = open_log(tmp_path, segment_bytes=SMALL)
    assert found == entries(1, *range(1, written))
    await log.append(entries(written))
    await log.close()


async def test_a_failed_sync_of_the_segment_made_ahead_stops_the_log(tmp_path, monkeypatch):
    def fail(descriptor):
        if threading.current_thread().name.startswith("log-reserve"):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "sync", fail)
    log, _ = open_log(tmp_path)
    await asyncio.to_thread(log._next.exception)
    await append_until_it_fails(log, "Input/output error")
    await log.close()


async def test_a_failed_seal_stops_the_log_though_nobody_waits_for_it(tmp_path, monkeypatch):
    log, _ = open_log(tmp_path)
    monkeypatch.setattr(log, "_sealed", False)

    def fail(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    await log.append(entries(1))
    monkeypatch.setattr(files, "sync", fail)
    assert "Input/output error" in str(await log.failed)
    await log.close()


async def test_what_a_crash_left_in_memory_alone_is_on_disk_before_it_is_acted_on(tmp_path, monkeypatch):
    """After a sync that failed, the system may take pages for clean that never reached the disk."""
    file = await written(tmp_path, entries(1), entries(2), sealed=False)
    rewritten = []
    real = files.write_at

    def write_at(descriptor, data, offset):
        rewritten.append((data, offset))
        real(descriptor, data, offset)

    monkeypatch.setattr(files, "write_at", write_at)
    last = content_of(file).last
    assert await read_back(tmp_path) == entries(1, 2)
    assert (file.read_bytes()[last : last + PAGE], last) in rewritten


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


def test_retention_keeps_the_silence_that_was_not_ended():
    asked, silenced, spoke = ((type_, 0) for type_ in (RecordType.ASKED, RecordType.SILENCED, RecordType.SPOKE))
    assert retained([asked, silenced, spoke, asked, silenced], 10) == [2, 3, 4]
    assert retained([asked, silenced, silenced], 10) == [0, 1, 2]
