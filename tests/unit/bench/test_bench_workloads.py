"""What callers ask has the shares and the popularity that its name promises, and wrong answers are seen."""

import random
import sys
from collections import Counter

import pytest

from bench import workloads
from bench.callers import KeyValueCaller, ServiceCaller, Tally
from bench.null_service import Null
from bench.options import Options
from bench.plan import Plan
from bench.systems.interface import Found, Page, Written
from bench.workloads import YCSB, Mix, Zipf
from bft.client.result import Result
from bft.errors import Timeout

STEPS = 2000


class Table:
    """A store in a dictionary, that counts what it is asked for."""

    def __init__(self) -> None:
        self.held: dict[bytes, bytes] = {}
        self.asked: Counter[bytes] = Counter()
        self.revision = 0

    async def put(self, key: bytes, value: bytes) -> Written:
        self.revision += 1
        self.asked[key] += 1
        self.held[key] = value
        return Written(self.revision, self.revision)

    async def get(self, key: bytes) -> Found:
        self.asked[key] += 1
        return Found(self.revision, self.held.get(key))

    async def scan(self, start: bytes, limit: int) -> Page:
        keys = [key for key in sorted(self.held) if key >= start]
        return Page(self.revision, [(key, self.held[key]) for key in keys[:limit]], len(keys) > limit)


def plan(options: Options) -> Plan:
    return Plan(
        system=options.system,
        cluster="",
        result="",
        workload=options.workload,
        zipfian=options.skewed,
        clients=[0],
        callers_per_client=1,
        callers=1,
        bundles_max=None,
        bundle_operations_max=None,
        value_size=options.value_size,
        reads=options.reads,
        keys=1 if options.all_shared else options.keys,
        shared=1.0 if options.all_shared else 0.0,
        shared_keys=options.shared_keys,
        warmup_s=0.0,
        duration_s=1.0,
        rate=None,
    )


async def carried_out(options: Options, table: Table) -> tuple[Counter[str], Tally]:
    """A caller's steps, after it loaded its keys."""
    mix, tally = options.mix, Tally()
    assert mix is not None
    caller = KeyValueCaller(0, table, plan(options), mix, tally)
    await caller.load()
    table.asked.clear()
    kinds: Counter[str] = Counter()
    for _ in range(STEPS):
        kind, done = await caller._operate()
        assert done
        kinds[kind] += 1
    return kinds, tally


@pytest.mark.parametrize(("name", "mix"), YCSB.items())
async def test_a_mix_has_the_shares_that_it_names_and_every_answer_fits(name, mix):
    options = Options(clients=1, inflight=1, keys=200, workload=name)
    kinds, tally = await carried_out(options, Table())
    for kind, share in (("get", mix.reads), ("scan", mix.scans), ("insert", mix.inserts)):
        assert kinds[kind] / STEPS == pytest.approx(share, abs=0.04)
    assert tally.violations == []


async def test_zipfian_keys_are_asked_for_as_zipfs_law_says():
    table = Table()
    await carried_out(Options(clients=1, inflight=1, keys=200, workload="ycsb-b"), table)
    (first, most), *_, (_, least) = table.asked.most_common()
    assert first == b"shared/0"
    assert most > 20 * least
    assert most / STEPS == pytest.approx(1 / sum(1 / rank**0.99 for rank in range(1, 201)), abs=0.05)


async def test_uniform_keys_are_asked_for_alike():
    table = Table()
    await carried_out(Options(clients=1, inflight=1, keys=20, workload="ycsb-a", zipfian=False), table)
    counts = [count for _, count in table.asked.most_common()]
    assert len(counts) == 20
    assert counts[0] < 2 * counts[-1]


async def test_what_was_inserted_last_is_read_most():
    table = Table()
    await carried_out(Options(clients=1, inflight=1, keys=100, workload="ycsb-d"), table)
    asked_of_new = sum(count for key, count in table.asked.items() if key >= b"bench/00000100")
    assert asked_of_new > STEPS / 2


async def test_a_write_that_follows_a_read_is_of_the_same_key():
    asked: list[tuple[str, bytes]] = []

    class Recording(Table):
        async def put(self, key, value):
            asked.append(("put", key))
            return await super().put(key, value)

        async def get(self, key):
            asked.append(("get", key))
            return await super().get(key)

    await carried_out(Options(clients=1, inflight=1, keys=50, workload="ycsb-f"), Recording())
    loaded = 1 + 50
    written = [number for number in range(loaded, len(asked)) if asked[number][0] == "put"]
    assert written
    assert all(asked[number - 1] == ("get", asked[number][1]) for number in written)


async def test_a_scan_that_leaves_out_a_key_is_a_violation():
    class Forgetful(Table):
        async def scan(self, start, limit):
            page = await super().scan(start, limit)
            return page._replace(items=page.items[:1] + page.items[2:])

    _, tally = await carried_out(Options(clients=1, inflight=1, keys=200, workload="ycsb-e"), Forgetful())
    assert tally.violation_count > 0
    assert "is lost" in tally.violations[0]


def test_ranks_stay_below_their_count():
    zipf, chance = Zipf(3), random.Random(1)
    assert {zipf.rank(chance) for _ in range(1000)} == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "skewed", "all_shared"),
    [("kv-put", False, False), ("ycsb-a", True, True), ("ycsb-d", True, False), ("null", False, False)],
)
def test_all_callers_share_the_popular_keys_where_none_are_inserted(name, skewed, all_shared):
    options = Options(workload=name)
    assert (options.skewed, options.all_shared) == (skewed, all_shared)


def test_reads_are_the_share_of_kv_put():
    assert workloads.mix_of("kv-put", reads=0.3) == Mix(reads=0.3)


class Cluster:
    """Answers every operation with `answer`, or not at all."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer

    async def call(self, operation: bytes) -> Result:
        if self.answer is None:
            raise Timeout("nobody answers", ambiguous=True)
        return Result(self.answer, 7)


@pytest.mark.parametrize(("answer", "done", "wrong"), [(b"", True, 0), (b"x", True, 1), (None, False, 0)])
async def test_a_workload_of_ones_own_judges_its_answers(answer, done, wrong):
    tally = Tally()
    workload = workloads.find("null")(0, random.Random(0), 10)
    caller = ServiceCaller(Cluster(answer), workload, tally)  # type: ignore[arg-type]
    assert await caller._operate() == ("null", done)
    assert (tally.violation_count, tally.acknowledged, tally.errors.total()) == (wrong, int(done), int(not done))


def test_a_throw_away_cluster_runs_the_service_of_its_workload():
    assert Options(workload="null").service == f"{Null.__module__}:{Null.__name__}"
    assert Options(workload="ycsb-a").service == "bft.statemachine.kv:KeyValue"


def test_a_class_in_the_current_directory_is_found(tmp_path, monkeypatch):
    (tmp_path / "ones_own_workload.py").write_text("from bench.workloads import Null\nclass Mine(Null): pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert workloads.find("ones_own_workload:Mine").__name__ == "Mine"
