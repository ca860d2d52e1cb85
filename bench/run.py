"""One run: a cluster, load, faults, measurement, and the verdict."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

from bench import machine
from bench.cluster import Cluster, machine_busy_s, usage_of, workplace
from bench.figures import Edge, Span, figures, view_changes
from bench.floor import crypto_floor
from bench.injector import Injector, Mark
from bench.inspection import inspect
from bench.latency import Interval, Latencies
from bench.limits import confined
from bench.links import Links
from bench.load import Worker, workers
from bench.options import Options
from bench.phases import Breakdown, breakdown
from bench.subject import Subject, running
from bench.verdict import Seen, Verdict

SCHEMA: Final = "bft-bench-run/2"
_START_S: Final = 0.3  # for the word to get round before the warm-up begins
_SAMPLE_S: Final = 0.5


class Show(Protocol):
    """Whoever watches."""

    def step(self, text: str) -> None: ...

    def progress(self, at_s: float, operations: int, errors: int) -> None:
        """`at_s` of the measurement, negative during the warm-up; counts since the load began."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The replicas at one moment."""

    at_s: float  # of the measurement
    cpu_s: dict[int, float]  # used so far
    rss_bytes: dict[int, int]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """Everything about a run; what a report is made of."""

    options: Options
    machine: dict[str, Any]
    floor: dict[str, float]
    began: datetime
    latencies: Latencies = field(default_factory=Latencies)
    from_send: Latencies = field(default_factory=Latencies)  # open loop only: as a closed loop would have seen them
    timeline: list[Interval] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    changes: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)  # what went wrong, when it really did
    errors: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    verdict: Verdict = field(default_factory=lambda: Verdict(()))
    figures: dict[str, Any] | None = None  # None: the run was not safe

    def document(self) -> dict[str, Any]:
        """result.json."""
        return {
            "schema": SCHEMA,
            "began": self.began.isoformat(timespec="seconds"),
            "interrupted": self.interrupted,
            "verdict": self.verdict.document(),
            "figures": self.figures,
            "errors": self.errors,
            "options": self.options.document(),
            "marks": [mark.document() for mark in self.marks],
            "machine": self.machine,
            "crypto_floor": self.floor,
        }


class Interrupts:
    """Ctrl-C and SIGTERM: the first one ends the measurement if there is one, else, like every further one, the run."""

    def __init__(self) -> None:
        self.requested = False
        self._measuring: asyncio.Event | None = None

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def on_signal() -> None:
            if self._measuring is not None and not self.requested:
                self._measuring.set()
            elif task is not None:
                task.cancel()
            self.requested = True

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    @contextlib.contextmanager
    def measuring(self) -> Iterator[asyncio.Event]:
        """What is set when the measurement is to end early."""
        self._measuring = asyncio.Event()
        try:
            yield self._measuring
        finally:
            self._measuring = None


async def run(options: Options, show: Show) -> Outcome:
    """Carry out a run.  Raises BftError or OSError when it cannot be; CancelledError when interrupted too early.

    Interrupted during the measurement it gives what was measured until then.
    """
    interrupts = Interrupts()
    with interrupts.watched(), confined(options.limits) as groups, workplace(options.replicas) as scratch:
        outcome = Outcome(options=options, machine=machine.describe(), floor=crypto_floor(), began=datetime.now(UTC))
        async with running(options, scratch, show.step, groups) as (subject, links):
            await _Measurement(outcome, subject, links, show, interrupts, scratch).carry_out()
    return outcome


class _Measurement:
    """The part of a run for which there is a cluster."""

    def __init__(
        self,
        outcome: Outcome,
        subject: Subject,
        links: Links | None,
        show: Show,
        interrupts: Interrupts,
        scratch: Path,
    ) -> None:
        self._outcome = outcome
        self._links = links
        self._options = outcome.options
        self._subject = subject
        self._show = show
        self._interrupts = interrupts
        self._scratch = scratch
        self._begin_s = 0.0  # CLOCK_MONOTONIC
        self._seconds = 0.0
        self._phases: Breakdown | None = None
        self._edges: dict[int, tuple[Edge, Edge]] = {}
        self._busy_s = 0.0  # CPU seconds that the whole machine, but for proxies of ours, worked meanwhile

    async def carry_out(self) -> None:
        options, show = self._options, self._show
        async with workers(options, self._subject.directory, self._scratch) as load:
            show.step(
                f"{options.callers} callers of {options.clients} clients, {options.workload} on {options.keys} keys"
            )
            await asyncio.gather(*(worker.ready() for worker in load))
            show.step(f"warm-up of {options.warmup_s:g} s, then {options.duration_s:g} s of measurement")
            with self._interrupts.measuring() as stop:
                await self._measure(load, stop)
            self._outcome.interrupted = stop.is_set()
            results = await asyncio.gather(*(worker.result() for worker in load))
        show.step("the verdict: every key is read back, the replicas' states are compared")
        self._phases = await self._breakdown(results)
        seen = await inspect(self._options, self._subject, results)
        self._conclude(results, seen)

    async def _measure(self, load: list[Worker], stop: asyncio.Event) -> None:
        self._begin_s = time.monotonic() + _START_S + self._options.warmup_s
        for worker in load:
            worker.go(self._begin_s)
        if await self._wait(self._begin_s, load, stop):
            busy_s, first = self._busy(), await self._ends()
            async with self._disturbed():
                await self._wait(self._begin_s + self._options.duration_s, load, stop)
                self._busy_s = self._busy() - busy_s
            last = await self._ends()
            self._edges = {replica: (first[replica], last[replica]) for replica in self._subject.replicas}
        self._seconds = max(0.0, min(time.monotonic() - self._begin_s, self._options.duration_s))
        if stop.is_set():
            for worker in load:
                worker.stop()

    def _disturbed(self) -> contextlib.AbstractAsyncContextManager[None]:
        """What the options let go wrong, while the block lasts."""
        if not isinstance(self._subject, Cluster):
            return contextlib.nullcontext()
        injector = Injector(self._options, self._subject, self._links, self._show.step)
        self._outcome.marks = injector.marks
        return injector.running(self._begin_s)

    def _busy(self) -> float:
        proxies = None if self._links is None else usage_of(self._links.pid)
        return machine_busy_s() - (0.0 if proxies is None else proxies.cpu_s)

    async def _wait(self, until_s: float, load: list[Worker], stop: asyncio.Event) -> bool:
        """Sample and show progress until then; False if it is to end early."""
        while (left := until_s - time.monotonic()) > 0 and not stop.is_set():
            self._sample()
            now = time.monotonic() - self._begin_s
            self._show.progress(now, sum(w.operations for w in load), sum(w.errors for w in load))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(left, _SAMPLE_S))
        return not stop.is_set()

    def _sample(self) -> None:
        used = {replica: self._subject.usage(replica) for replica in self._subject.replicas}
        at_s = time.monotonic() - self._begin_s
        if at_s >= 0:
            self._outcome.samples.append(
                Sample(
                    at_s,
                    {replica: usage.cpu_s for replica, usage in used.items() if usage is not None},
                    {replica: usage.rss_bytes for replica, usage in used.items() if usage is not None},
                )
            )

    async def _ends(self) -> dict[int, Edge]:
        used = {replica: self._subject.usage(replica) for replica in self._subject.replicas}
        statuses = await self._subject.statuses(self._subject.replicas)
        return {replica: Edge(statuses[replica], used[replica]) for replica in self._subject.replicas}

    # --- after the load

    async def _breakdown(self, results: list[dict[str, Any]]) -> Breakdown | None:
        told = await asyncio.gather(*(asyncio.to_thread(self._subject.phases, i) for i in self._subject.replicas))
        answers = [answer for result in results for answer in result["answers"]]
        return breakdown(answers, [document for document in told if document is not None])

    def _conclude(self, results: list[dict[str, Any]], seen: Seen) -> None:
        outcome = self._outcome
        outcome.latencies = Latencies.merged(result["latencies"] for result in results)
        outcome.from_send = Latencies.merged(result["latencies_from_send"] for result in results)
        outcome.timeline = outcome.latencies.timeline(self._seconds)
        for result in results:
            for text, count in result["errors"].items():
                outcome.errors[text] = outcome.errors.get(text, 0) + count
        everyone = [replica for replica in self._subject.replicas if replica not in self._options.faulty]
        correct = self._options.undisturbed if self._options.cluster is None else everyone
        correct = correct or everyone
        events = [event for event in self._subject.view_events() if event.replica in correct]
        epoch_s = time.time() - (time.monotonic() - self._begin_s)
        outcome.changes = view_changes(events, len(correct), epoch_s=epoch_s, until_s=self._seconds)
        outcome.verdict = Verdict.of(seen)
        if outcome.verdict.safe:
            outcome.figures = figures(
                outcome.latencies,
                outcome.timeline,
                outcome.from_send,
                seconds=self._seconds,
                failed=seen.failed,
                edges=self._edges,
                workers_cpu_s=[result["cpu_s"] for result in results],
                busy_s=self._busy_s,
                floor=outcome.floor,
                faulty=self._options.faulty,
                marks=outcome.marks,
                changes=outcome.changes,
                phases=self._phases,
                signed=self._options.guarantees,
                load_here=not self._options.workers,
                history_full=any(result["shared_full"] for result in results),
            )
