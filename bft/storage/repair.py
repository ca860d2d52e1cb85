"""What is wrong with a data directory that no replica uses, and how to be rid of it.

Nothing is mended: a log with a hole has forgotten something that the replica said, and which, nobody knows.  All of it
is set aside, and the replica joins again like one that lost its disk.
"""

import shutil
from pathlib import Path
from typing import Final, NamedTuple

from bft.codec import Limits
from bft.errors import DataDirectoryError, ForeignDataError, StorageFailure
from bft.statemachine.trie import MerkleTrie
from bft.storage import segments
from bft.storage.directory import GENESIS, LOCK
from bft.storage.files import sync_directory
from bft.storage.log import FileLog
from bft.storage.logfile import Identity
from bft.storage.records import decode_record
from bft.storage.snapshot import STATE, SnapshotStore

ASIDE: Final = "discarded-"


class Finding(NamedTuple):
    """What one part of the directory is like."""

    part: str
    sound: bool
    text: str


def never_ran(directory: Path) -> bool:
    """Whether the replica has said nothing yet: it has nothing to lose and needs no repair."""
    return (directory / GENESIS).exists()


def is_lost(directory: Path) -> bool:
    """Whether what the replica said is gone already: it will join again by itself."""
    return not FileLog.exists(directory)


def examine(directory: Path, identity: Identity, limits: Limits) -> list[Finding]:
    """Read everything; call with the directory locked.  Raises ForeignDataError, or StorageFailure if it cannot."""
    try:
        truncated = 0  # as long as the log does not say: any state will do
        try:
            truncated, entries = segments.read(directory, identity)
            for entry in entries:
                decode_record(entry, limits)
            log = Finding("log", True, f"{len(entries)} records; what is about numbers up to {truncated} is gone")
        except ForeignDataError:
            raise
        except DataDirectoryError as error:
            log = Finding("log", False, str(error))
        try:
            return [log, Finding("state", True, _read_state(directory, identity, limits, truncated))]
        except ForeignDataError:
            raise
        except DataDirectoryError as error:
            return [log, Finding("state", False, str(error))]
    except OSError as error:
        raise StorageFailure(f"{error.filename or directory}: {error.strerror}") from error


def set_aside(directory: Path) -> Path:
    """Move all that the directory holds into a directory within it, durably; where.  Raises StorageFailure.

    The log's base goes last: whatever is interrupted leaves a log that is refused, or none.
    """
    number = 1
    while (aside := directory / f"{ASIDE}{number}").exists():
        number += 1
    moving = [path for path in directory.iterdir() if path.name != LOCK and not path.name.startswith(ASIDE)]
    try:
        aside.mkdir(mode=0o700)
        for path in sorted(moving, key=lambda path: (path.name.startswith(segments.BASE), path.name)):
            path.rename(aside / path.name)
        sync_directory(aside)
        sync_directory(directory)
    except OSError as error:
        raise StorageFailure(f"{error.filename or directory}: {error.strerror}") from error
    return aside


def discard(aside: Path) -> None:
    """Remove what was set aside.  Raises StorageFailure."""
    try:
        shutil.rmtree(aside)
        sync_directory(aside.parent)
    except OSError as error:
        raise StorageFailure(f"{error.filename or aside}: {error.strerror}") from error


def _read_state(directory: Path, identity: Identity, limits: Limits, truncated: int) -> str:
    store = SnapshotStore(directory, identity, limits) if (directory / STATE).exists() else None
    saved = None if store is None else store.load()
    try:
        if saved is None or saved.certificate.seq < truncated:
            if truncated:
                raise DataDirectoryError(f"{directory / STATE}: the state of {truncated} or later is lost")
            return "none was saved yet"
        root = MerkleTrie().update(dict(saved.items)).root
        if root != saved.certificate.root:
            raise DataDirectoryError(
                f"{directory / STATE}: its root is {root.hex()[:16]}, certified is {saved.certificate.root.hex()[:16]}"
            )
        return f"that of {saved.certificate.seq}, with the root that is certified"
    finally:
        if store is not None:
            store.close()
