"""After the load: what the system holds now and what its replicas say, for the verdict."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import shared as shared_keys
from bench import systems
from bench.faults import stays_down
from bench.history import KeyHistory, wrong_values
from bench.options import Options
from bench.shared import Reading, operations
from bench.subject import Members, Subject
from bench.systems import pbft
from bench.systems.interface import Session
from bench.verdict import Seen
from bft.errors import BftError

_SETTLE_S: Final = 30.0
_POLL_S: Final = 0.25
_READ_BACK_S: Final = 60.0
_PAGE: Final = 500


async def inspect(options: Options, subject: Subject, results: Sequence[Mapping[str, Any]]) -> Seen:
    """`results` are the workers'.  Nothing is asked of the system before its correct replicas stand at one place."""
    faulty, down = options.faulty, stays_down(options.events)
    statuses = None if isinstance(subject, Members) else await _settled(subject, faulty | down)
    histories = {
        key.encode(): KeyHistory.of(document) for result in results for key, document in result["histories"].items()
    }
    executed = None
    undisturbed = options.undisturbed
    if statuses is not None and options.cluster is None and undisturbed:
        counts = [s["executed_operations"] for i, s in statuses.items() if s is not None and i in undisturbed]
        executed = max(counts, default=0) - options.clients  # each registered once
    shared = operations([row for result in results for row in result["shared"]])
    wrong: list[str] | None = None
    try:
        async with asyncio.timeout(_READ_BACK_S), _reader(options, subject.directory) as session:
            if histories:
                pages = await _read(session, min(histories), max(histories))
                wrong = wrong_values(histories, {key: value for page in pages for key, value in page.items})
            if shared:
                pages = await _read(session, shared_keys.FIRST, shared_keys.LAST)
                shared += shared_keys.final_reads(shared, pages, options.value_size)
        wrong = wrong or []
        if isinstance(subject, Members):
            shared = shared_keys.ranked(shared)
    except (BftError, TimeoutError):
        wrong = None
    return Seen(
        acknowledged=sum(result["acknowledged"] for result in results),
        failed=sum(sum(result["errors"].values()) for result in results),
        violations=[text for result in results for text in result["violations"]],
        shared=shared,
        keys=len(histories),
        wrong=wrong,
        faulty=faulty,
        down=down,
        statuses=statuses,
        executed=executed,
    )


async def _settled(subject: Subject, excused: set[int]) -> Mapping[int, Mapping[str, Any] | None]:
    """The replicas' statuses, once the correct ones have executed the same; after a while, however they are."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        statuses = await subject.statuses(subject.replicas)
        stands = {
            None if status is None else (status["last_executed"], status["state_root"])
            for replica, status in statuses.items()
            if replica not in excused
        }
        if (len(stands) == 1 and None not in stands) or time.monotonic() > deadline:
            return statuses
        await asyncio.sleep(_POLL_S)


@contextlib.asynccontextmanager
async def _reader(options: Options, directory: Path) -> AsyncIterator[Session]:
    """A client of its own."""
    if options.system in systems.OWN:
        with pbft.signing(left_out=options.system == systems.UNSIGNED):
            async with pbft.session(str(directory)) as own:
                yield own
    else:
        async with systems.find(options.system)(directory).session(0) as other:
            yield other


async def _read(session: Session, first: bytes, last: bytes) -> list[Reading]:
    """The keys from the first to the last, and perhaps some more; at least one page."""
    pages: list[Reading] = []
    start = first
    while True:
        invoked_ns = time.monotonic_ns()
        page = await session.scan(start, _PAGE)
        pages.append(Reading(invoked_ns, time.monotonic_ns(), page.seq, page.items))
        if not page.more or page.items[-1][0] >= last:
            return pages
        start = page.items[-1][0] + b"\0"
