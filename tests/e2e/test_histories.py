"""What eight clients are told while one replica process lies and the others are killed, judged as a whole."""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pytest

from bench.links import Links, Profile, proxied
from bench.proxy import Line
from bft.client import Client, ClientSettings, connect
from bft.config import Address, ClusterConfig, load_cluster
from bft.errors import BftError, Overloaded, Timeout
from bft.statemachine import kv
from bft.testing.history import Action, Cas, Delete, Get, Listing, Operation, Put, Range
from bft.testing.linearizability import check, check_by_witness
from bft.testing.recorder import Recorder
from deploy import launcher
from tests.e2e.harness import Cluster, kill, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]

LIAR: Final = 0  # the primary of view 0
CORRECT: Final = (1, 2, 3)
CLIENTS: Final = [f"c{number}" for number in range(8)]
QUICK: Final[dict[str, Any]] = {
    "request_timeout_ns": 500_000_000,
    "view_change_timeout_ns": 500_000_000,
    "checkpoint_interval": 16,
    "window": 64,
}
ROUNDS: Final = int(os.environ.get("HISTORY_ROUNDS", "25"))  # of the slow tests


def prepare(cluster: Cluster) -> ClusterConfig:
    """Short time-outs, many checkpoints, a history that forgets nothing, and eight clients."""
    made = load_cluster(cluster.directory)
    config = replace(
        made,
        parameters=replace(made.parameters, **QUICK),
        service_options={"history_revisions": 1_000_000, "history_bytes": 1 << 30},
    )
    for home in (cluster.directory, *(cluster.replica(replica) for replica in range(cluster.n))):
        (home / "cluster.toml").write_text(config.dump(ca="ca.crt"))
    for name in CLIENTS:
        cluster.bft("ca", "issue", cluster.directory, name)
    return config


@dataclass
class Processes:
    """The replicas; `LIAR` is Byzantine each time it runs."""

    cluster: Cluster
    behaviour: str

    def start(self, replicas: Iterable[int]) -> None:
        for replica in replicas:
            home = self.cluster.replica(replica)
            if replica == LIAR:
                launcher.start(home, "bft.testing.run_byzantine", ["--behaviour", self.behaviour])
            else:
                launcher.start(home)

    def kill(self, replicas: Iterable[int]) -> None:
        for replica in replicas:
            kill(self.cluster, replica)

    async def down_for(self, replicas: Iterable[int], seconds: float) -> None:
        victims = list(replicas)
        await asyncio.to_thread(self.kill, victims)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self.start, victims)

    async def primary(self) -> int:
        """As most say."""
        replicas = (await asyncio.to_thread(self.cluster.status))["replicas"]
        said = Counter(replica["primary"] for replica in replicas if replica["reachable"])
        return int(said.most_common(1)[0][0]) if said else LIAR


@asynccontextmanager
async def running(cluster: Cluster, behaviour: str) -> AsyncIterator[Processes]:
    processes = Processes(cluster, behaviour)
    processes.start(range(cluster.n))
    await asyncio.to_thread(wait_until, lambda: cluster.status()["progress"])
    yield processes


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must happen; the test's time-out ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
        await asyncio.sleep(0.02)


# --- linearizability


@dataclass
class Use:
    """What the clients do to three keys that all of them share."""

    recorder: Recorder = field(default_factory=Recorder)
    done: int = 0
    stop: bool = False

    async def use(self, name: str, client: Client) -> None:
        source = random.Random(name)
        seen: bytes | None = None
        number = 0
        while not self.stop:
            key, value = source.choice([b"a", b"b", b"c"]), b"%s/%d" % (name.encode(), number)
            number += 1
            choices: list[Action] = [Put(key, value), Get(key), Cas(key, seen, value), Delete(key), Range(b"a", b"z")]
            (action,) = source.choices(choices, weights=(4, 6, 4, 1, 1))
            result = await self.recorder.perform(name, client, action)
            if isinstance(action, Get) and not isinstance(result, Listing | tuple | bool):
                seen = result
            self.done += 1

    async def grows(self, *, by: int) -> None:
        wanted = self.done + by
        await until(lambda: self.done >= wanted)


async def history_of(processes: Processes, *, rounds: int, seed: int) -> tuple[list[Operation], int]:
    """What the clients were told through so many crashes; and the view at the end."""
    chance = random.Random(seed)
    work = Use()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as users:
        clients = [
            await stack.enter_async_context(connect(processes.cluster.directory, identity=name, timeout=100.0))
            for name in CLIENTS
        ]
        for name, client in zip(CLIENTS, clients, strict=True):
            users.create_task(work.use(name, client))
        await work.grows(by=60)
        for number in range(rounds):
            match ("primary", "one", "two", "all")[number % 4]:
                case "primary":
                    victims = [await processes.primary()]
                case "one":
                    victims = [chance.choice(CORRECT)]
                case "two":
                    victims = chance.sample(CORRECT, 2)
                case _:
                    victims = list(range(processes.cluster.n))
            await processes.down_for(victims, chance.choice([0.0, 0.5, 2.0]))
            await work.grows(by=60)
        work.stop = True
        view = max(client.status().view for client in clients)
    return work.recorder.history, view


async def assert_linearizable(cluster: Cluster, behaviour: str, *, rounds: int, seed: int) -> set[int]:
    """Who was accused."""
    prepare(cluster)
    async with running(cluster, behaviour) as processes:
        history, view = await history_of(processes, rounds=rounds, seed=seed)
    sys.stderr.write(f"seed {seed}: {len(history)} operations, view {view}\n")
    assert view >= 1
    for verdict in (check(history), check_by_witness(history)):
        assert verdict, f"seed {seed}: {verdict}"
    listed = json.loads(await asyncio.to_thread(cluster.bft, "evidence", "list", cluster.directory, "--json"))
    return {entry["accused"] for entry in listed}


@pytest.mark.timeout(300)
async def test_a_history_through_crashes_and_an_equivocating_primary_is_linearizable(cluster: Cluster) -> None:
    assert await assert_linearizable(cluster, "equivocate_split", rounds=4, seed=1) == {LIAR}


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize(
    "behaviour", ["after(2s, equivocate_split)", "equivocate_each + lying_replies", "silent_to_f + equivocate_votes"]
)
async def test_long_histories_through_crashes_and_a_lying_primary_are_linearizable(
    cluster: Cluster, behaviour: str
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    assert await assert_linearizable(cluster, behaviour, rounds=ROUNDS, seed=seed) <= {LIAR}


# --- what a call that failed says about itself

CALLERS: Final = 6  # a client
SETTINGS: Final = ClientSettings(bundles_max=2, bundle_operations_max=2)  # so that calls wait their turn, too


@dataclass
class Calls:
    """Each call writes a key of its own; what it was told."""

    done: dict[bytes, int] = field(default_factory=dict)  # and the revision
    ambiguous: set[bytes] = field(default_factory=set)
    not_executed: set[bytes] = field(default_factory=set)
    stop: bool = False

    async def call(self, name: str, client: Client, chance: random.Random) -> None:
        number = 0
        while not self.stop:
            key = f"{name}/{number}".encode()
            number += 1
            try:
                self.done[key] = await client.put(key, b"", timeout=chance.choice([0.05, 0.3, 1.0, 3.0]))
            except (Timeout, Overloaded) as error:
                ambiguous = isinstance(error, Timeout) and error.ambiguous
                (self.ambiguous if ambiguous else self.not_executed).add(key)
            except BftError as error:
                if not getattr(error, "ambiguous", False):
                    raise
                self.ambiguous.add(key)

    async def settled(self, clients: list[Client]) -> None:
        """Nothing is on its way any more."""
        await until(lambda: not any(client.status().in_flight or client.status().queued for client in clients))


@asynccontextmanager
async def client_lines(config: ClusterConfig, path: Path) -> AsyncIterator[list[Line]]:
    """A line to the client port of each replica; `path` is the cluster.toml that leads over them."""
    async with AsyncExitStack() as stack:
        lines, entries = [], []
        for entry in config.replicas:
            line = Line(entry.client.host, entry.client.port)
            server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
            stack.callback(server.close)
            lines.append(line)
            entries.append(replace(entry, client=Address("127.0.0.1", server.sockets[0].getsockname()[1])))
        await asyncio.to_thread(path.write_text, replace(config, replicas=tuple(entries)).dump(ca="ca.crt"))
        yield lines


async def trouble(processes: Processes, links: Links, lines: list[Line], chance: random.Random, number: int) -> None:
    """One kind of fault, and its end."""
    seconds = chance.uniform(0.2, 2.5)
    replicas = range(processes.cluster.n)
    match number % 4:
        case 0:
            await processes.down_for(chance.sample(replicas, chance.choice([1, 2])), seconds)
        case 1:
            cut = chance.sample(lines, chance.choice([2, 3, 4]))
            for line in cut:
                line.whole.clear()
            await asyncio.sleep(seconds)
            for line in cut:
                line.whole.set()
        case 2:
            alone = chance.choice(replicas)
            pairs = [(a, b) for a in replicas for b in replicas if a != b and alone in {a, b}]
            one_way = [pair for pair in pairs if chance.random() < 0.8]
            await links.cut(one_way)
            await asyncio.sleep(seconds)
            await links.mend(one_way)
        case _:
            await processes.down_for(chance.sample(replicas, chance.choice([3, 4])), seconds)


async def executed(cluster: Cluster, config: ClusterConfig) -> dict[bytes, list[int]]:
    """The service's own history: every write of each key, by revision."""
    found: dict[bytes, list[int]] = {}
    async with connect(cluster.directory, identity=CLIENTS[0], timeout=60.0) as client:
        last = await client.put(b"last", b"")
        async with aclosing(client.watch(since=1)) as events:
            async for event in events:
                if event.revision == last:
                    return found
                assert event.kind is kv.EventKind.PUT
                found.setdefault(event.key, []).append(event.revision)
    raise AssertionError("a watch ended")


async def assert_errors_are_true(cluster: Cluster, behaviour: str, *, rounds: int, seed: int) -> None:
    """A call that was told "not executed" never is; none is executed twice; an answer is of what was executed."""
    chance = random.Random(seed)
    config = prepare(cluster)
    told = Calls()
    over_lines = cluster.directory / "over-lines.toml"
    async with (
        proxied(cluster.directory, Profile()) as links,
        running(cluster, behaviour) as processes,
        client_lines(config, over_lines) as lines,
        AsyncExitStack() as stack,
    ):
        clients = [
            await stack.enter_async_context(connect(over_lines, identity=name, timeout=60.0, settings=SETTINGS))
            for name in CLIENTS
        ]
        async with asyncio.TaskGroup() as callers:
            for name, client in zip(CLIENTS, clients, strict=True):
                for number in range(CALLERS):
                    who = f"{name}/{number}"
                    callers.create_task(told.call(who, client, random.Random(f"{seed}/{who}")))
            for number in range(rounds):
                await asyncio.sleep(chance.uniform(0.5, 2.0))
                await trouble(processes, links, lines, chance, number)
            told.stop = True
        await told.settled(clients)
        happened = await executed(cluster, config)
    sys.stderr.write(
        f"seed {seed}: {len(told.done)} done, {len(told.ambiguous)} ambiguous, of which "
        f"{len(told.ambiguous & happened.keys())} executed, {len(told.not_executed)} not executed\n"
    )
    assert told.done
    assert told.ambiguous
    assert told.not_executed
    assert told.not_executed.isdisjoint(happened)
    assert {key: happened.get(key) for key in told.done} == {key: [revision] for key, revision in told.done.items()}
    assert {key for key, revisions in happened.items() if len(revisions) > 1} == set()
    assert happened.keys() <= told.done.keys() | told.ambiguous


@pytest.mark.timeout(300)
async def test_a_call_that_is_told_that_it_was_not_executed_never_is(cluster: Cluster) -> None:
    await assert_errors_are_true(cluster, "equivocate_split", rounds=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300 + 30 * ROUNDS)
@pytest.mark.parametrize("behaviour", ["after(2s, silent)", "equivocate_each", "censor + lying_replies"])
async def test_through_many_faults_no_call_that_is_told_so_was_executed(cluster: Cluster, behaviour: str) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    await assert_errors_are_true(cluster, behaviour, rounds=ROUNDS, seed=seed)
