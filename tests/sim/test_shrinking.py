"""A failing run becomes a small one that fails the same way."""

import pytest

from bft.core.quorum import Quorums
from bft.testing.checkers import Checker
from bft.testing.options import Family, Options
from bft.testing.shrinking import attempt, shrink, tell
from bft.testing.simulation import simulate


@pytest.fixture
def crash_is_forbidden(monkeypatch):
    """An artificial violation that needs one crash and nothing else."""

    def on_crash(self, host):
        self._fail(f"replica {host.id} crashed")

    monkeypatch.setattr(Checker, "on_crash", on_crash)


def test_a_run_that_fails_by_one_crash_shrinks_to_one_crash(crash_is_forbidden):
    families = (Family.CRASH, Family.PARTITION, Family.LOSS, Family.PAUSE, Family.CLOCK, Family.BYZANTINE_CLIENT)
    drawn = next(
        options
        for seed in range(100)
        if len((options := Options.draw(seed, 4, families)).families) >= 4 and options.crashes > 2
    )
    failure = attempt(drawn)
    assert failure is not None
    small = shrink(failure)
    assert small.way == failure.way == "replica # crashed"
    left = small.options
    assert left.crashes - sum(name.startswith("crash ") for name in left.omitted) == 1
    assert (left.partitions, left.pauses, left.loss, left.clock_steps, left.byzantine_clients) == (0, 0, 0.0, 0, ())
    assert (left.clients, left.requests) == (1, 1)
    story = tell(small)
    assert len(story.script) == 1
    assert "crash" in story.script[0]
    assert attempt(left) is not None


def test_a_quorum_too_small_shrinks_to_one_request_without_any_fault(monkeypatch):
    """The mutant with quorums of f + 1: the first certificate gives it away."""
    monkeypatch.setattr(Quorums, "of", classmethod(lambda cls, n: cls(n=n, f=(n - 1) // 3, quorum=2, weak=2)))
    options = Options(
        seed=1, byzantine=((0, "equivocate_split+replay"),), crashes=2, partitions=1, pauses=1, loss=0.02, requests=20
    )
    failure = attempt(options)
    assert failure is not None
    small = shrink(failure)
    assert small.way == failure.way
    assert (small.options.crashes, small.options.partitions, small.options.pauses) == (0, 0, 0)
    assert (small.options.byzantine, small.options.clients, small.options.requests) == ((), 1, 1)


def test_a_run_that_holds_is_no_failure():
    assert attempt(Options(seed=1, requests=2)) is None


def test_shrinking_ends_when_its_time_is_over(crash_is_forbidden):
    failure = attempt(Options.draw(next(s for s in range(50) if Options.draw(s, 4).crashes), 4))
    assert failure is not None
    assert shrink(failure, seconds=0.0, clock=iter(range(100)).__next__) is failure


def test_a_fault_left_out_leaves_the_others_at_their_times():
    """Each has chances of its own; whom it hits may depend on who is primary then."""
    times = []
    for omitted in ((), ("partition 0",)):
        lines: list[str] = []
        simulate(Options(seed=3, pauses=2, partitions=1, requests=2, omitted=omitted), lines.append)
        times.append([line.split("*")[0] for line in lines if "* pause" in line])
    assert times[0] == times[1]
    assert len(times[0]) == 2
