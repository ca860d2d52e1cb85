"""What is measured: a cluster of our own, one that runs already, or another system; started and ended with the run."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from bench.cluster import Cluster, Usage, ViewEvent, initialise, start, usage_of
from bench.limits import Groups
from bench.links import Links, Profile, proxied
from bench.options import Options
from bench.systems import OWN, UNSIGNED, find


@dataclass(frozen=True, slots=True)
class Members:
    """Processes of a system that is not ours: the kernel counts what they use, and nothing more is known of them."""

    directory: Path
    pids: Sequence[int]

    @property
    def replicas(self) -> range:
        return range(len(self.pids))

    def usage(self, replica: int) -> Usage | None:
        return usage_of(self.pids[replica])

    async def statuses(self, replicas: Sequence[int]) -> Mapping[int, dict[str, Any] | None]:
        return dict.fromkeys(replicas)

    def phases(self, replica: int) -> dict[str, Any] | None:
        return None

    def view_events(self) -> list[ViewEvent]:
        return []


Subject: TypeAlias = Cluster | Members


@contextlib.asynccontextmanager
async def running(
    options: Options, scratch: Path, step: Callable[[str], None], groups: Groups | None = None
) -> AsyncIterator[tuple[Subject, Links | None]]:
    """What the options name, and the proxies of its links if there are any.  Raises BftError or OSError.

    Replicas of a throw-away cluster go with `bench.cluster.workplace`, everything else with this block.
    """
    if options.system not in OWN:
        system = find(options.system)(scratch / "system")
        async with system.running(options.durability) as pids:
            for number, pid in enumerate(pids):
                if groups is not None:
                    groups.confine(number, pid)
            step(f"{system.name}: {len(pids)} {'process' if len(pids) == 1 else 'processes'} on this machine")
            yield Members(system.directory, pids), None
        return
    if options.cluster is not None:
        cluster = Cluster(options.cluster)
        for replica in cluster.replicas:
            cluster.pid(replica)  # it must run here
        yield cluster, None
        return
    directory, signed = scratch / "cluster", options.system != UNSIGNED
    step(
        f"{options.replicas} replicas on this machine, durability {options.durability}"
        + ("" if signed else ", WITHOUT SIGNATURES: no guarantee, for comparison alone")
    )
    await initialise(directory, options.replicas, options.service)
    async with contextlib.AsyncExitStack() as stack:
        links: Links | None = None
        if options.needs_proxies:
            links = await stack.enter_async_context(proxied(directory, options.network or Profile()))
        behaviours = [fault.specification for fault in options.faults]
        cluster = await start(directory, behaviours=behaviours, durability=options.durability, signed=signed)
        cluster.groups = groups
        if groups is not None:
            for replica in cluster.replicas:
                groups.confine(replica, cluster.pid(replica))
        yield cluster, links
