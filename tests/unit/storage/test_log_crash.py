"""Power loss and rot: what was acknowledged is there after any crash, and a changed bit is never taken for its end."""

import asyncio
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bft.errors import DataDirectoryError
from bft.storage import files, segments
from bft.storage import log as log_module
from bft.storage.log import FileLog
from bft.storage.logfile import PAGE, Identity
from bft.storage.records import Entry, RecordType, retained
from tests.unit.storage.disk import Disk, Operation

OURS = Identity("c", 1)
SEGMENT_BYTES = 6 * PAGE
TYPES = (RecordType.ACCEPTED, RecordType.PREPARED, RecordType.STABLE, RecordType.LEFT_VIEW, RecordType.PROVEN)
CRASHES_A_TRACE = 40


async def work(log: FileLog, disk: Disk, chance: random.Random, first: int, rounds: int) -> None:
    """Append and truncate at random, several appends at a time; note what was asked for and what was acknowledged.

    Some of it is written in this thread and some in the log's.
    """
    for number in range(first, first + rounds):
        waiting = []
        for part in range(chance.randint(1, 3)):
            entries = [
                Entry(chance.choice(TYPES), number, b"%d.%d.%d " % (number, part, index) * chance.choice((1, 90, 700)))
                for index in range(chance.randint(1, 3))
            ]
            disk.note("append", entries)
            waiting.append((log.append(entries, idle=chance.random() < 0.5), entries))
        for done, entries in waiting:
            await done
            disk.note("acknowledge", entries)
        if chance.random() < 0.3:
            disk.note("truncate", number - 3)
            log.truncate(max(number - 3, 0))
        if chance.random() < 0.1:
            await asyncio.sleep(2 * log_module.SEAL_AFTER_S)  # long enough for a seal


def needed(entries: Sequence[Entry], truncated: int) -> list[Entry]:
    kept = [entries[index] for index in retained([(entry.type, entry.seq) for entry in entries], truncated)]
    return [entry for entry in kept if entry.type != RecordType.LEFT_VIEW]


def last_view(entries: Sequence[Entry]) -> int:
    return max((entry.seq for entry in entries if entry.type == RecordType.LEFT_VIEW), default=0)


def is_within(part: Sequence[Entry], whole: Sequence[Entry]) -> bool:
    """Whether `part` is in `whole`, in the same order."""
    remaining = iter(whole)
    return all(entry in remaining for entry in part)


def check(found: Sequence[Entry], operations: Sequence[Operation], before: Sequence[Entry]) -> None:
    """Every acknowledged entry that is still needed was found, in order, and nothing that was never written."""
    asked, acknowledged, truncated = list(before), list(before), 0
    for operation in operations:
        match operation:
            case ("append", entries):
                asked += entries
            case ("acknowledge", entries):
                acknowledged += entries
            case ("truncate", seq):
                truncated = max(truncated, seq)
    assert is_within(needed(acknowledged, truncated), found)
    assert last_view(acknowledged) <= last_view(found)
    assert is_within(found, asked)


def a_moment(disk: Disk, chance: random.Random) -> int:
    """After how many operations the power fails: any number, and often just before names become durable."""
    names = [number for number, operation in enumerate(disk.operations) if operation == ("sync names",)]
    return chance.choice(names) if chance.random() < 0.5 else chance.randint(0, len(disk.operations))


@pytest.mark.parametrize("seed", range(4))
async def test_what_was_acknowledged_is_there_after_a_crash_at_any_moment_and_another_after_that(tmp_path, seed):
    chance = random.Random(seed)
    directory = tmp_path / "0"
    directory.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(directory, patch)
        patch.setattr(log_module, "INLINE_SYNC_NS_MAX", 10**12)
        log, _ = FileLog.open(directory, OURS, retained, segment_bytes=SEGMENT_BYTES)
        await work(log, disk, chance, 1, 40)
        await log.close()
    for crash in range(CRASHES_A_TRACE):
        after = a_moment(disk, chance)
        image = tmp_path / f"{crash + 1}"
        image.mkdir()
        disk.crash(after, image, chance)
        with pytest.MonkeyPatch.context() as patch:
            again = Disk(image, patch)
            log, found = FileLog.open(image, OURS, retained, segment_bytes=SEGMENT_BYTES)
            again.note("opened")
            check(found, disk.operations[:after], ())
            if crash % 4 == 0:
                await work(log, again, chance, 100, 4)
            await log.close()
        opened = again.operations.index(("opened",))
        for second in range(3):
            later = a_moment(again, chance)
            last = tmp_path / f"{crash + 1}.{second}"
            last.mkdir()
            again.crash(later, last, chance)
            with pytest.MonkeyPatch.context() as patch:
                Disk(last, patch)
                log, read = FileLog.open(last, OURS, retained, segment_bytes=SEGMENT_BYTES)
                await log.close()
            if later > opened:  # what was read once was acted on, whether or not it had been acknowledged
                check(read, again.operations[:later], found)
            else:
                check(read, disk.operations[:after], ())
            shutil.rmtree(last)
        shutil.rmtree(image)


async def full_log(directory: Path, patch: pytest.MonkeyPatch) -> list[Entry]:
    """A base, closed segments, one in use with several groups, one made ahead; what they hold."""
    patch.setattr(files, "sync", lambda descriptor: None)
    log, _ = FileLog.open(directory, OURS, retained, segment_bytes=SEGMENT_BYTES)
    for seq in range(1, 30):
        await log.append([Entry(RecordType.LEFT_VIEW, seq, b"left"), Entry(RecordType.ACCEPTED, seq, b"p%d" % seq)])
        if seq == 20:
            log.truncate(14)
    await log.close()
    assert [len(segments.numbered(directory, prefix)) for prefix in (segments.BASE, segments.SEGMENT)] == [1, 5]
    return read(directory)


def parts(directory: Path) -> list[Path]:
    return [path for prefix in (segments.BASE, segments.SEGMENT) for _, path in segments.numbered(directory, prefix)]


def read(directory: Path) -> list[Entry]:
    found = segments.find(directory, OURS, SEGMENT_BYTES, sync=False)
    for segment in (found.active, found.following):
        if segment is not None:
            os.close(segment.descriptor)
    return found.entries


def is_refused_or_unchanged(directory: Path, entries: list[Entry]) -> str | None:
    """What the refusal says, None if all is there; anything else fails the test."""
    try:
        found = read(directory)
    except DataDirectoryError as error:
        return str(error)
    assert found == entries
    return None


async def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(tmp_path, monkeypatch):
    entries = await full_log(tmp_path, monkeypatch)
    chance = random.Random(0)
    refused = 0
    for path in parts(tmp_path):
        whole = path.read_bytes()
        meaningful = [at for at in range(len(whole)) if at % PAGE < 100]
        for position in (*chance.sample(meaningful, 200), *chance.sample(range(len(whole)), 20)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << chance.randrange(8)
            path.write_bytes(damaged)
            refusal = is_refused_or_unchanged(tmp_path, entries)
            refused += refusal is not None
            if refusal is not None:
                assert "bft replica repair" in refusal
                assert "damaged at byte" in refusal
        path.write_bytes(whole)
    assert refused > 300


async def test_a_lost_page_before_the_last_seal_is_refused(tmp_path, monkeypatch):
    entries = await full_log(tmp_path, monkeypatch)
    for path in parts(tmp_path):
        whole = path.read_bytes()
        for page in range(0, len(whole), PAGE):
            path.write_bytes(whole[:page] + bytes(PAGE) + whole[page + PAGE :])
            is_refused_or_unchanged(tmp_path, entries)
        path.write_bytes(whole)


async def test_a_segment_whose_last_groups_are_lost_is_refused_if_the_log_goes_on_in_the_next(tmp_path, monkeypatch):
    await full_log(tmp_path, monkeypatch)
    (_, path), *_ = segments.numbered(tmp_path, segments.SEGMENT)
    whole = path.read_bytes()
    for page in range(PAGE, len(whole) - PAGE, PAGE):
        path.write_bytes(whole[:page] + bytes(len(whole) - page))
        with pytest.raises(DataDirectoryError, match="its end is not what was written"):
            read(tmp_path)


async def test_a_missing_file_is_refused(tmp_path, monkeypatch):
    entries = await full_log(tmp_path, monkeypatch)
    ahead = segments.numbered(tmp_path, segments.SEGMENT)[-1][1]
    for path in parts(tmp_path):
        whole = path.read_bytes()
        path.unlink()
        if path == ahead:
            assert read(tmp_path) == entries
        else:
            with pytest.raises(DataDirectoryError, match="missing, though"):
                read(tmp_path)
        path.write_bytes(whole)
