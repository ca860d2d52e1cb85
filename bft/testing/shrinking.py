"""Makes a failing run small: whatever can be left out so that it still fails the same way is left out.

Every fault of a run has its own name and its own chances, so one less leaves the others where they were.  Nothing is
proven minimal: what remains is what no single step of the list below could remove.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from bft.testing.options import QUICK_NS, Options
from bft.testing.simulation import simulate
from bft.testing.violation import Violation

_COUNTED = {  # field of Options: name of the faults
    "partitions": "partition",
    "asymmetric_cuts": "asymmetric",
    "crashes": "crash",
    "pauses": "pause",
    "clock_steps": "clock",
    "lost_disks": "lost-disk",
    "rollbacks": "rollback",
}
_TAIL = 40  # lines of the trace that are kept


@dataclass(frozen=True, slots=True)
class Failure:
    """A failing run."""

    options: Options
    violation: Violation

    @property
    def way(self) -> str:
        """What failed, without the numbers and digests that differ from run to run."""
        return re.sub(r"\b[0-9a-f]{8}\b|\d+", "#", self.violation.what.partition("\n")[0].partition(";")[0])


@dataclass(frozen=True, slots=True)
class Story:
    """A failing run for people."""

    script: tuple[str, ...]  # the faults that struck, in order
    tail: tuple[str, ...]  # the end of the trace


def attempt(options: Options) -> Failure | None:
    """The failure of the run; None if everything holds."""
    try:
        simulate(options)
    except Violation as violation:
        return Failure(options, violation)
    return None


def tell(failure: Failure) -> Story:
    """Run it again and take notes."""
    script: list[str] = []
    tail: deque[str] = deque(maxlen=_TAIL)

    def take(line: str) -> None:
        tail.append(line)
        if "ms * " in line and "has the outcome" not in line:
            script.append(line.strip())

    with suppress(Violation):
        simulate(failure.options, take)
    return Story(tuple(script), tuple(tail))


def shrink(
    failure: Failure,
    *,
    seconds: float = 60.0,
    progress: Callable[[Failure], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
) -> Failure:
    """The smallest failing run found within `seconds`; it fails the same way as `failure`."""
    ends = clock() + seconds
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(failure.options):
            if clock() > ends:
                return failure
            found = attempt(candidate)
            if found is not None and found.way == failure.way:
                failure, smaller = found, True
                progress(failure)
                break
    return failure


def _candidates(options: Options) -> Iterator[Options]:
    """One step smaller each, the largest steps first."""
    for change in _changes(options):
        try:
            candidate = replace(options, **change)  # type: ignore[arg-type]  # names and types are those of Options
        except ValueError:
            continue  # such a run promises nothing
        if candidate != options:
            yield candidate


def _changes(options: Options) -> Iterator[Mapping[str, object]]:
    for n in (4, 7):
        if n < options.n and all(replica < n for replica, _ in options.byzantine):
            yield {"n": n, "crash_stop": tuple(r for r in options.crash_stop if r < n), "twins": (), "rounds": ()}
    for name in ("byzantine_clients", "byzantine", "crash_stop"):
        held = getattr(options, name)
        yield {name: ()}
        yield from ({name: held[:i] + held[i + 1 :]} for i in range(len(held)) if len(held) > 1)
    yield {"twins": (), "rounds": ()}
    yield from _fewer_faults(options)
    yield from ({name: 0} for name in ("loss", "duplicate", "reorder", "clock_offset_ns", "clock_drift_ppm"))
    yield from ({name: value} for name, value in (("delay_ns", QUICK_NS), ("round_events_max", 1)))
    yield from _smaller_load(options)
    for index, (replica, text) in enumerate(options.byzantine):
        for part in text.split("+") if "+" in text else ():
            yield {"byzantine": (*options.byzantine[:index], (replica, part), *options.byzantine[index + 1 :])}


def _fewer_faults(options: Options) -> Iterator[Mapping[str, object]]:
    for field, kind in _COUNTED.items():
        count = getattr(options, field, 0)
        if count:
            yield {field: 0, "omitted": tuple(name for name in options.omitted if name.split()[0] != kind)}
            names = [name for i in range(count) if (name := f"{kind} {i}") not in options.omitted]
            if len(names) > 1:
                for half in (names[len(names) // 2 :], names[: len(names) // 2]):
                    yield {"omitted": (*options.omitted, *half)}
                for name in names if len(names) > 2 else ():
                    yield {"omitted": (*options.omitted, name)}


def _smaller_load(options: Options) -> Iterator[Mapping[str, object]]:
    if options.clients > 1:
        yield {"clients": 1}
    for name in ("requests", "operations", "in_flight", "batch_requests_max", "pipeline_depth"):
        value = getattr(options, name)
        if value > 1:
            yield from ({name: smaller} for smaller in sorted({1, value // 2, value - 1}))
