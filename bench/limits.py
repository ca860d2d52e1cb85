"""Processor and memory limits of each replica, by control groups of this machine, where we may make some.

Version 2 is tried first, in our own group and then its ancestors: a group that holds processes hands no controller on.
Where the controllers belong to version 1 still, groups are made there.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bft.errors import ConfigurationError, EnvironmentFailure

_ROOT: Final = Path("/sys/fs/cgroup")
_PERIOD_US: Final = 100_000
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MEMORY_MIN: Final = 64 << 20  # a replica's interpreter and libraries
_GONE_S: Final = 5.0  # until the kernel has let go of processes that ended
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each replica, or each process of another system; None: none."""

    cpus: float | None = None
    memory_bytes: int | None = None

    @classmethod
    def of(cls, cpus: float | None, memory: str | None) -> Self:
        """`memory` as in 512M or 2G.  Raises ConfigurationError."""
        if memory is None:
            return cls(cpus)
        number, unit = memory[:-1], memory[-1:].upper()
        size = int(number) * _UNITS[unit] if number.isdecimal() and unit in _UNITS else 0
        if size < _MEMORY_MIN:
            raise ConfigurationError(f'--memory "{memory}": write it as 512M or 2G, at least {_MEMORY_MIN >> 20}M')
        return cls(cpus, size)

    def __bool__(self) -> bool:
        return self.cpus is not None or self.memory_bytes is not None

    def document(self) -> dict[str, float | int | None]:
        return {"cpus": self.cpus, "memory_bytes": self.memory_bytes}

    def settings(self, version: int) -> dict[str, dict[str, str]]:
        """The files to write, by controller."""
        found: dict[str, dict[str, str]] = {}
        if self.cpus is not None:
            quota = str(round(self.cpus * _PERIOD_US))
            found["cpu"] = {"cpu.max": f"{quota} {_PERIOD_US}"} if version == 2 else {"cpu.cfs_quota_us": quota}
        if self.memory_bytes is not None:
            size = str(self.memory_bytes)
            found["memory"] = {"memory.max": size} if version == 2 else {"memory.limit_in_bytes": size}
        return found


NONE: Final = Limits()


class Groups:
    """The control groups of a run, one or, with version 1, two for each replica."""

    def __init__(self, limits: Limits, root: Path, own: str) -> None:
        """`root` is where control groups are mounted, `own` what /proc/self/cgroup says."""
        self._limits = limits
        self._made: list[Path] = []
        self._parents, self._version = _parents(limits, root, own)

    def confine(self, replica: int, pid: int) -> None:
        """Put the process, all its threads, under the limits.  Raises EnvironmentFailure."""
        settings = self._limits.settings(self._version)
        groups: dict[Path, dict[str, str]] = {}
        for controller, files in settings.items():
            groups.setdefault(self._parents[controller] / f"bft-bench-{os.getpid()}-{replica}", {}).update(files)
        try:
            for group, files in groups.items():
                if group not in self._made:
                    group.mkdir(exist_ok=True)
                    self._made.append(group)
                for name, value in {**files, "cgroup.procs": str(pid)}.items():
                    (group / name).write_text(value)
        except OSError as error:
            raise _refused(f"{error.strerror}: {error.filename}") from error

    def remove(self) -> None:
        """After the processes ended."""
        deadline = time.monotonic() + _GONE_S
        for group in self._made:
            while True:
                try:
                    group.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(_POLL_S)
                else:
                    break


@contextlib.contextmanager
def confined(limits: Limits) -> Iterator[Groups | None]:
    """Groups for the processes that the block starts and ends; None: no limits.  Raises EnvironmentFailure."""
    if not limits:
        yield None
        return
    groups = Groups(limits, _ROOT, Path("/proc/self/cgroup").read_text())
    try:
        yield groups
    finally:
        groups.remove()


def _parents(limits: Limits, root: Path, own: str) -> tuple[Mapping[str, Path], int]:
    """Where a group with the wanted controllers can be made, by controller."""
    wanted = set(limits.settings(2))
    mount = root if (root / "cgroup.controllers").exists() else root / "unified"
    path = next((line.removeprefix("0::") for line in own.splitlines() if line.startswith("0::")), "/")
    here = mount / path.lstrip("/")
    for parent in (here, *here.parents):
        if not parent.is_relative_to(mount):
            break
        if wanted <= set(_text(parent / "cgroup.subtree_control").split()) and os.access(parent, os.W_OK):
            return dict.fromkeys(wanted, parent), 2
    older = {controller: root / controller for controller in wanted}
    if all((place / "cgroup.procs").exists() and os.access(place, os.W_OK) for place in older.values()):
        return older, 1
    raise _refused(f"no control group hands on {' and '.join(sorted(wanted))} and may be written")


def _refused(why: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"--cpus and --memory: {why}; run as root, as `systemd-run --user --scope -p Delegate=yes bft bench ...`, "
        "or without limits"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
