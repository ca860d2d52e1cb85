"""The machine that was measured, what ran on it, and how fast its cryptography can be at best."""

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from crypto.keys import PrivateKey, verify

_PACKAGES: Final = ("bft-service", "cryptography", "msgpack", "pynacl", "uvloop")
_ROUNDS: Final = 5
_ROUND_S: Final = 0.04
_MESSAGE: Final = bytes(200)  # about a vote


def describe() -> dict[str, Any]:
    """For result.json; what cannot be found out is null."""
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        "kernel": platform.release(),
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def crypto_floor() -> dict[str, float]:
    """Microseconds of one core for each primitive: the best of several rounds, with the functions that replicas use."""
    key = PrivateKey.generate()
    signature, public = key.sign(_MESSAGE), key.public.raw
    block = bytes(4096)
    return {
        "sign_us": _microseconds(lambda: key.sign(_MESSAGE)),
        "verify_us": _microseconds(lambda: verify(public, _MESSAGE, signature)),
        "sha256_4k_us": _microseconds(lambda: hashlib.sha256(block).digest()),
    }


def _microseconds(call: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < _ROUND_S:
            for _ in range(10):
                call()
            count += 10
        best = min(best, elapsed / count * 1e6)
    return round(best, 2)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def _commit() -> str | None:
    """Of the checkout that this runs from, marked when it holds changes; None outside of one."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
