"""A disk that may lose, at any moment, any sector and any name that was not synced."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bft.storage import files

SECTOR = 512
Operation: TypeAlias = tuple[Any, ...]


@dataclass
class _File:
    durable: bytes
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)  # writes (offset, data), or a new size

    def sync(self) -> None:
        self.durable = self._after(lambda: True)
        self.pending.clear()

    def torn(self, chance: random.Random) -> bytes:
        """What the disk may hold: each sector that was not synced as it was, or as some write left it."""
        likely = chance.random()
        return self._after(lambda: chance.random() < likely)

    def _after(self, reached: Callable[[], bool]) -> bytes:
        content = bytearray(self.durable)
        for change in self.pending:
            if isinstance(change, int):
                if reached():
                    content = content[:change].ljust(change, b"\0")
                continue
            offset, data = change
            for start in range(0, len(data), SECTOR):
                if reached():
                    at = offset + start
                    content = content.ljust(at, b"\0")
                    content[at : at + SECTOR] = data[start : start + SECTOR]
        return bytes(content)


class Disk:
    """Carries out what `bft.storage.files` is asked for, and remembers it."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.operations: list[Operation] = []
        self._initial = {path.name: path.read_bytes() for path in directory.iterdir()}
        self._ids = {name: number for number, name in enumerate(self._initial)}
        self._descriptors: dict[int, int] = {}
        self._made = len(self._ids)
        self._lock = threading.Lock()
        real = {name: getattr(files, name) for name in ("create", "open_to_write", "write_at", "rename", "unlink")}
        resize = files.set_size

        def create(path: Path) -> int:
            with self._lock:
                descriptor: int = real["create"](path)
                self._ids[path.name] = self._descriptors[descriptor] = self._made
                self.operations.append(("create", path.name, self._made))
                self._made += 1
                return descriptor

        def open_to_write(path: Path) -> int:
            with self._lock:
                descriptor: int = real["open_to_write"](path)
                self._descriptors[descriptor] = self._ids[path.name]
                return descriptor

        def write_at(descriptor: int, data: bytes, offset: int) -> None:
            with self._lock:
                self.operations.append(("write", self._descriptors[descriptor], offset, data))
                real["write_at"](descriptor, data, offset)

        def set_size(descriptor: int, size: int) -> None:
            with self._lock:
                self.operations.append(("size", self._descriptors[descriptor], size))
                resize(descriptor, size)

        def sync(descriptor: int) -> None:
            with self._lock:
                self.operations.append(("sync", self._descriptors[descriptor]))

        def rename(old: Path, new: Path) -> None:
            with self._lock:
                self._ids[new.name] = self._ids.pop(old.name)
                self.operations.append(("rename", old.name, new.name))
                real["rename"](old, new)

        def unlink(path: Path) -> None:
            with self._lock:
                del self._ids[path.name]
                self.operations.append(("unlink", path.name))
                real["unlink"](path)

        def sync_directory(directory: Path) -> None:
            with self._lock:
                self.operations.append(("sync names",))

        for function in (create, open_to_write, write_at, set_size, sync, rename, unlink, sync_directory):
            patch.setattr(files, function.__name__, function)

    def note(self, *operation: Any) -> None:
        """Remember something that happened at this point and is none of the disk's business."""
        with self._lock:
            self.operations.append(operation)

    def crash(self, after: int, directory: Path, chance: random.Random) -> None:
        """Put into `directory` what the disk may hold when the power fails after so many operations."""
        contents = {number: _File(data) for number, data in enumerate(self._initial.values())}
        names = {name: number for number, name in enumerate(self._initial)}
        pending: list[Operation] = []
        for operation in self.operations[:after]:
            match operation:
                case ("create", _, number):
                    contents[number] = _File(b"")
                    pending.append(operation)
                case ("rename" | "unlink", *_):
                    pending.append(operation)
                case ("write", number, offset, data):
                    contents[number].pending.append((offset, data))
                case ("size", number, size):
                    contents[number].pending.append(size)
                case ("sync", number):
                    contents[number].sync()
                case ("sync names",):
                    _apply(names, pending)
                    pending = []
        _apply(names, pending[: chance.randint(0, len(pending))])  # a file system's journal keeps their order
        for name, number in names.items():
            (directory / name).write_bytes(contents[number].torn(chance))


def _apply(names: dict[str, int], operations: list[Operation]) -> None:
    for operation in operations:
        match operation:
            case ("create", name, number):
                names[name] = number
            case ("rename", old, new):
                names[new] = names.pop(old)
            case ("unlink", name):
                del names[name]
