"""The worked examples on real clusters: TLS, signatures, fsync, receipts."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import counter
import pytest
import two_phase_commit as tpc

import bft
from bft.config import ClusterConfig
from tests.integration.harness import make_cluster, running_cluster


@dataclass
class World:
    """Two independent clusters, each with an account that holds 100."""

    home: bft.Client
    away: bft.Client
    config: ClusterConfig

    async def balances(self) -> tuple[int, int]:
        return int((await self.home.call(b"balance a")).value), int((await self.away.call(b"balance b")).value)

    async def refused(self, client: bft.Client, operation: bytes) -> str:
        with pytest.raises(bft.ApplicationError) as caught:
            await client.call(operation)
        return caught.value.code


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        clients = []
        configs = []
        for name in ("home", "away"):
            directory = tmp_path / name
            directory.mkdir()
            configs.append(make_cluster(directory, name=name, service="two_phase_commit:Ledger", durability="os"))
            await stack.enter_async_context(running_cluster(directory))
            clients.append(await stack.enter_async_context(bft.connect(directory, identity="test")))
        world = World(clients[0], clients[1], configs[0])
        for client, account in zip(clients, (b"a", b"b"), strict=True):
            await tpc.found(client, world.config)
            await client.call(b"open %s 100" % account)
        yield world


PAY = tpc.Transfer(tx=b"t1", giver=b"a", taker=b"b", amount=30)


async def test_a_transfer_between_clusters_happens_on_both_sides(world: World) -> None:
    assert await tpc.transfer(world.home, world.away, PAY) == tpc.COMMIT
    assert await world.balances() == (70, 130)


async def test_a_transfer_without_cover_happens_on_neither_side(world: World) -> None:
    too_much = tpc.Transfer(tx=b"t1", giver=b"a", taker=b"b", amount=101)
    assert await tpc.transfer(world.home, world.away, too_much) == tpc.ABORT
    assert await world.balances() == (100, 100)


async def test_a_coordinator_that_dies_undecided_blocks_nobody(world: World) -> None:
    """What is reserved comes back as soon as anybody asks: nothing was decided, so his "abort" is the decision."""
    with pytest.raises(tpc.Crashed):
        await tpc.transfer(world.home, world.away, PAY, crash_after="prepare")
    assert await world.balances() == (70, 100)
    assert await tpc.resolve(world.home, world.away, PAY.tx) == tpc.ABORT
    assert await world.balances() == (100, 100)


async def test_what_a_dead_coordinator_decided_stands_whatever_others_ask_for(world: World) -> None:
    with pytest.raises(tpc.Crashed):
        await tpc.transfer(world.home, world.away, PAY, crash_after="decide")
    assert await tpc.resolve(world.home, world.away, PAY.tx) == tpc.COMMIT
    assert await tpc.resolve(world.home, world.away, PAY.tx) == tpc.COMMIT
    assert await world.balances() == (70, 130)


async def test_a_coordinator_that_was_only_slow_finds_the_decision_of_others(world: World) -> None:
    with pytest.raises(tpc.Crashed):
        await tpc.transfer(world.home, world.away, PAY, crash_after="prepare")
    await tpc.resolve(world.home, world.away, PAY.tx)
    assert await tpc.transfer(world.home, world.away, PAY) == tpc.ABORT
    assert await world.balances() == (100, 100)


async def test_nobody_commits_without_a_receipt_of_the_home_cluster(world: World) -> None:
    """Not on a bare word, a receipt of another transaction, nor on the away cluster's own "decision"."""
    with pytest.raises(tpc.Crashed):
        await tpc.transfer(world.home, world.away, PAY, crash_after="prepare")
    other = (await world.home.call(b"decide t2 commit")).receipt.encode()
    usurped = (await world.away.call(b"decide t1 commit")).receipt.encode()
    changed = bytearray((await world.home.call(b"decide t1 abort")).receipt.encode())
    changed[len(changed) // 2] ^= 1
    for forged in (b"commit", other, usurped, bytes(changed)):
        assert await world.refused(world.away, b"finish t1 " + forged) == "no_proof"
    assert await world.balances() == (70, 100)


async def test_the_story_of_two_phase_commit_ends_as_it_says(world: World, tmp_path: Path, capsys) -> None:
    """As `python docs/examples/two_phase_commit.py HOME AWAY` tells it, and again on the same clusters."""
    for _ in range(2):
        await tpc.main(str(tmp_path / "home"), str(tmp_path / "away"), identity="test")
        told = re.findall(r"^  (.*?) +Anna +(\d+), Bert +(\d+)$", capsys.readouterr().out, re.MULTILINE)
        balances = [(int(anna), int(bert)) for _, anna, bert in told]
        assert balances == [(100, 100), (70, 130), (40, 130), (70, 130), (40, 130), (40, 160), (10, 160)]
        assert [line.rpartition(": ")[2] for line, *_ in told[3:6:2]] == [
            "abort, for nothing was decided",
            "commit, for that was decided",
        ]


async def test_classic_two_phase_commit_blocks_when_its_coordinator_dies(world: World) -> None:
    """The promise stays for ever: nobody else may decide, and the one who may is gone."""
    coordinator = tpc.Blocking()
    await world.home.call(b"prepare t1 a -30")
    await world.away.call(b"prepare t1 b 30")
    coordinator.alive = False
    with pytest.raises(tpc.Crashed):
        coordinator.decide(PAY.tx, tpc.ABORT)
    assert await world.balances() == (70, 100)


async def test_the_counter_of_the_readme_counts_on_a_real_cluster(tmp_path: Path) -> None:
    make_cluster(tmp_path, service="counter:Counter", durability="os")
    async with running_cluster(tmp_path), bft.connect(tmp_path, identity="test") as client:
        assert await counter.add(client, 40) == 40
        assert await counter.add(client, 2) == 42
        with pytest.raises(bft.ApplicationError):
            await client.call(b"two")
