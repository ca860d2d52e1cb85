"""`python -m bench.worker`: one process of the load.  Started by the run, spoken to over its standard streams.

in:   the plan, a JSON object of one line; `time`, which asks for its clock, CLOCK_MONOTONIC; `go T` (T: when the
      measurement begins, by that clock); end of file: stop
out:  {"ready": true}; {"now": T}; then {"operations": N, "errors": N} every half second; the results go to the plan's
      file or, if it names none, come as lines {"part": "..."}
"""

import asyncio
import contextlib
import json
import random
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import uvloop

from bench import systems
from bench.callers import Caller, Clock, KeyValueCaller, ServiceCaller, Tally
from bench.plan import Plan
from bench.rate import Rate
from bench.remote import parts
from bench.systems import pbft
from bench.workloads import find, mix_of
from bft.errors import BftError

_REPORT_S: Final = 0.5


async def work(plan: Plan, orders: asyncio.StreamReader) -> None:
    """Connect, load the keys, wait for `go`, run, write the results."""
    tally, clock = Tally(), Clock(plan.duration_s)
    async with AsyncExitStack() as stack:
        callers: list[Caller] = []
        for number in plan.clients:
            callers += await stack.enter_async_context(_client(number, plan, tally))
        listening = asyncio.ensure_future(_listen(orders, clock))
        try:
            async with asyncio.TaskGroup() as group:
                for caller in callers:
                    group.create_task(caller.load())
            _say({"ready": True})
            cpu = await _measured(plan, callers, clock, tally)
        finally:
            listening.cancel()
    await asyncio.to_thread(_write, plan, callers, tally, cpu)


@contextlib.asynccontextmanager
async def _client(number: int, plan: Plan, tally: Tally) -> AsyncIterator[list[Caller]]:
    """The callers of one client, on its session."""
    first = number * plan.callers_per_client
    numbers = range(first, first + plan.callers_per_client)
    mix = mix_of(plan.workload, reads=plan.reads)
    if plan.system not in systems.OWN and mix is not None:
        async with systems.find(plan.system)(Path(plan.cluster)).session(number) as session:
            yield [KeyValueCaller(caller, session, plan, mix, tally) for caller in numbers]
        return
    async with pbft.session(plan.cluster, plan.settings()) as own:
        if mix is not None:
            yield [KeyValueCaller(caller, own, plan, mix, tally) for caller in numbers]
        else:
            workload = find(plan.workload)
            yield [
                ServiceCaller(own, workload(caller, random.Random(caller), plan.value_size), tally)
                for caller in numbers
            ]


async def _listen(orders: asyncio.StreamReader, clock: Clock) -> None:
    while line := (await orders.readline()).split():
        if line[0] == b"time":
            _say({"now": time.monotonic()})
        else:
            clock.go(float(line[1]))
    clock.stop()


async def _measured(plan: Plan, callers: list[Caller], clock: Clock, tally: Tally) -> float:
    """Run all callers; the CPU seconds of this process during the measurement."""
    await clock.told.wait()
    reporting = asyncio.ensure_future(_report(tally))
    at_begin = asyncio.ensure_future(_cpu_at_begin(clock))
    async with asyncio.TaskGroup() as group:
        if plan.rate is None:
            for caller in callers:
                group.create_task(caller.run(clock))
        else:
            await _run_scheduled(plan, callers, clock, group)
    reporting.cancel()
    if not at_begin.done():  # stopped during the warm-up
        at_begin.cancel()
        return 0.0
    return _cpu_s() - at_begin.result()


async def _run_scheduled(plan: Plan, callers: list[Caller], clock: Clock, group: asyncio.TaskGroup) -> None:
    """Hand each operation, when it falls due, to whichever caller is free."""
    if plan.rate is None:
        raise ValueError("a closed loop has no schedule")
    due: asyncio.Queue[float | None] = asyncio.Queue()
    for caller in callers:
        group.create_task(caller.run_scheduled(clock, due))
    share = len(callers) / plan.callers
    for at_s in Rate(*plan.rate).schedule(plan.warmup_s, plan.duration_s, share=share):
        scheduled = clock.begin_s + at_s
        if (left := scheduled - time.monotonic()) > 0:
            await asyncio.sleep(left)
        if time.monotonic() >= clock.end_s:
            break
        due.put_nowait(scheduled)
    for _ in callers:
        due.put_nowait(None)


async def _report(tally: Tally) -> None:
    while True:
        _say({"operations": tally.acknowledged, "errors": tally.errors.total()})
        await asyncio.sleep(_REPORT_S)


async def _cpu_at_begin(clock: Clock) -> float:
    await asyncio.sleep(max(0.0, min(clock.begin_s, clock.end_s) - time.monotonic()))
    return _cpu_s()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _write(plan: Plan, callers: list[Caller], tally: Tally, cpu_s: float) -> None:
    document = {
        "latencies": tally.recorder.document(),
        "latencies_from_send": tally.from_send.document(),
        "answers": list(tally.answers),
        "shared": tally.shared.document(),
        "shared_full": not tally.shared.has_room,
        "acknowledged": tally.acknowledged,
        "errors": dict(tally.errors),
        "violations": tally.violations,
        "violation_count": tally.violation_count,
        "cpu_s": round(cpu_s, 3),
        "histories": {
            key.decode(): history.document()
            for caller in callers
            if isinstance(caller, KeyValueCaller)
            for key, history in caller.histories.items()
        },
    }
    if plan.result:
        Path(plan.result).write_text(json.dumps(document))
        return
    for line in parts(document):
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


async def _main(directory: str | None) -> None:
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    if not (line := await orders.readline()):
        return  # whoever started it is gone
    plan = Plan(**json.loads(line))
    if directory is not None:
        plan = replace(plan, cluster=directory)
    with pbft.signing(left_out=plan.system == systems.UNSIGNED):
        await work(plan, orders)


def main(directory: str | None = None) -> int:
    """The process; `directory` is where the cluster's files are on this machine, if that is not the run's."""
    try:
        uvloop.run(_main(directory))
    except BaseExceptionGroup as group:
        foreseen, other = group.split(BftError)
        if foreseen is None or other is not None:
            raise
        return _fail(_first(foreseen))
    except BftError as error:
        return _fail(error)
    return 0


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _fail(error: BaseException) -> int:
    sys.stderr.write(f"error: {error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
