"""Whether a service is deterministic: the same operations, under conditions that must not matter, give the same states.

A service that is not brings its replica to a stop at the next checkpoint; better to learn that on a desk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgpack

from bft.statemachine.api import StateMachine
from bft.statemachine.loader import load_service
from bft.statemachine.replicated import ReplicatedState

_CLIENTS = 3  # operations come from these in turn
_EPOCH_NS = 1_800_000_000 * 10**9
_BATCH = 4  # operations at one sequence number and agreed time
_SHOWN_BYTES = 80


class NotDeterministic(AssertionError):
    """Two executions differed; the text says at which operation, and in what."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to execute the operations; none may make a difference."""

    name: str
    hash_seed: str
    time_zone: str = "UTC"
    restart_every: int = 0  # operations; 0: never


CONDITIONS = (
    Condition("hash seed 0", "0"),
    Condition("hash seed 1, another time zone", "1", time_zone="Pacific/Kiritimati"),
    Condition("a random hash seed", "random"),
    Condition("restarted after every third operation", "0", restart_every=3),
    Condition("restarted after every operation", "2", restart_every=1),
)


def check_determinism(service: type[StateMachine] | str, operations: Sequence[bytes]) -> bytes:
    """The state's Merkle root after ``operations``, if it and every result are the same under all `CONDITIONS`.

    Each runs in a process and an empty directory of its own.  ``service`` is a class that can be imported, or its name
    "package.module:Class".  Raises NotDeterministic, and ValueError when the service cannot be found or run.

    >>> from bft.statemachine.kv import KeyValue, encode_put
    >>> len(check_determinism(KeyValue, [encode_put(b"key", b"value")]))
    32
    """
    name = service if isinstance(service, str) else _name_of(service)
    reference, *others = CONDITIONS
    expected = _execute(name, operations, reference)
    for condition in others:
        found = _execute(name, operations, condition)
        for number, (first, second) in enumerate(zip(expected, found, strict=True)):
            if first != second:
                raise NotDeterministic(_difference(name, operations[: number + 1], reference, condition))
    return bytes(expected[-1][1]) if expected else b""


def _name_of(service: type[StateMachine]) -> str:
    if service.__module__ == "__main__" or "." in service.__qualname__:
        raise ValueError(f"{service.__qualname__} cannot be imported by name: put it at the top level of a module")
    return f"{service.__module__}:{service.__qualname__}"


def _execute(name: str, operations: Sequence[bytes], condition: Condition, *, items: bool = False) -> Any:
    """One (result's hash, root) an operation; with `items` the last result and the whole state instead."""
    task = msgpack.packb([name, list(operations), condition.restart_every, items])
    environment = os.environ | {
        "PYTHONHASHSEED": condition.hash_seed,
        "TZ": condition.time_zone,
        "PYTHONPATH": os.pathsep.join(os.path.abspath(entry or ".") for entry in sys.path),  # noqa: PTH100 (strings)
    }
    with tempfile.TemporaryDirectory(prefix="bft-determinism-") as directory:
        done = subprocess.run(  # noqa: S603 (this very module)
            [sys.executable, "-c", f"import {__name__} as this; this.main()"],
            input=task,
            capture_output=True,
            cwd=directory,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise ValueError(f"{name} under {condition.name}: {done.stderr.decode(errors='replace').strip()}")
    return msgpack.unpackb(done.stdout)


def _difference(name: str, operations: Sequence[bytes], first: Condition, second: Condition) -> str:
    """What differs after the last of these operations: executed once more, for a small report instead of all states."""
    (result, state), (other_result, other_state) = (
        _execute(name, operations, condition, items=True) for condition in (first, second)
    )
    where = f"{name} is not deterministic: operation {len(operations) - 1}, {_short(operations[-1])},"
    if result != other_result:
        return f"{where} gives {_short(result)} with {first.name} and {_short(other_result)} with {second.name}"
    mine, theirs = dict(state), dict(other_state)
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key):
            return (
                f"{where} leaves key {_short(key[1:])} as {_short(mine.get(key))} with {first.name} and as "
                f"{_short(theirs.get(key))} with {second.name}"
            )
    return f"{where} gave another result or state with {second.name} than with {first.name}, and not when repeated"


def _short(value: bytes | None) -> str:
    if value is None:
        return "nothing"
    return repr(value) if len(value) <= _SHOWN_BYTES else f"{value[:_SHOWN_BYTES]!r}... ({len(value)} bytes)"


def _run(name: str, operations: Sequence[bytes], restart_every: int, *, items: bool) -> Any:
    state = ReplicatedState(load_service(name))
    trail = []
    result = b""
    for number, operation in enumerate(operations):
        seq = number // _BATCH + 1
        client = number % _CLIENTS
        result = state.apply(
            operation,
            client=sha256(b"client %d" % client).digest(),
            client_name=f"client-{client}",
            seq=seq,
            time_ns=_EPOCH_NS + seq * 10**9,
        )
        trail.append((sha256(result).digest(), state.root()))
        if restart_every and (number + 1) % restart_every == 0:
            state = _restarted(state, name, number + 1)
    if not items:
        return trail
    state.checkpoint(len(operations))
    return result, list(state.snapshot_items(len(operations)))


def _restarted(state: ReplicatedState, name: str, position: int) -> ReplicatedState:
    """The state as a new process has it after recovery: nothing but what was in the store."""
    state.checkpoint(position)
    fresh = ReplicatedState(load_service(name))
    fresh.restore(position, state.snapshot_items(position))
    return fresh


def main() -> None:
    """Execute the task on standard input; the answer goes to standard output, whatever the service prints."""
    answer, sys.stdout = sys.stdout.buffer, sys.stderr
    name, operations, restart_every, items = msgpack.unpackb(sys.stdin.buffer.read())
    answer.write(msgpack.packb(_run(name, operations, restart_every, items=items)))
    answer.flush()
