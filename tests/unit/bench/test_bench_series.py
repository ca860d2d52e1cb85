"""What many runs are said to tell: ratios with their intervals, grids, saturation, the table of attacks."""

import math
import random
from typing import Any

import pytest

from bench import attack, compare, sweep
from bench.options import Options
from bench.rate import Rate
from bench.ratios import ratio
from bft.errors import ConfigurationError
from bft.testing.byzantine import NAMES


def pairs_of(chance: random.Random, *, slower: float = 0.0, noise: float = 0.03) -> list[tuple[float, float]]:
    """Eight pairs of a machine whose speed drifts, and whose runs differ by chance."""
    made = []
    for _ in range(8):
        drift = math.exp(chance.gauss(0, 0.3))
        a, b = (1000 * drift * math.exp(chance.gauss(0, noise)) for _ in "ab")
        made.append((a, b * (1 - slower)))
    return made


def test_two_identical_builds_do_not_differ_in_nineteen_of_twenty_tries():
    chance = random.Random(1)
    found = sum(ratio(pairs_of(chance)).differs for _ in range(100))
    assert found <= 5 + 5  # a standard deviation above the 5 that 95 % confidence means is 7


def test_a_slowdown_of_ten_percent_is_found_through_a_drift_of_thirty():
    chance = random.Random(2)
    found = [ratio(pairs_of(chance, slower=0.1)) for _ in range(50)]
    assert all(result.differs and result.high < 1 for result in found)


def test_equal_figures_give_no_difference_and_no_interval():
    result = ratio([(5.0, 5.0)] * 6)
    assert (result.low, result.high, result.differs) == (1.0, 1.0, False)
    assert str(result).startswith("no difference")


@pytest.mark.parametrize("pairs", [[], [(1.0, 1.0)] * 5, [(1.0, 0.0)] * 6])
def test_too_few_pairs_or_missing_figures_are_no_comparison(pairs):
    with pytest.raises(ValueError, match="at least 6 pairs"):
        ratio(pairs)


def test_a_and_b_lead_in_turn():
    assert list(compare.turns(3)) == [(0, "A"), (0, "B"), (1, "B"), (1, "A"), (2, "A"), (2, "B")]


def figures(operations_per_s: float = 100.0, **others: Any) -> dict[str, Any]:
    return {
        "operations_per_s": operations_per_s,
        "latency_ms": {"all": {"p50": 1.0, "p99": 2.0}},
        "replicas_cpu_us_per_operation": 300.0,
        "others_cores": 0.0,
        "view_changes": [],
        "longest_pause_s": 0.0,
        "replicas": [{"id": 0, "operations_per_batch": 8.0, "evidence": []}],
    } | others


def test_a_comparison_on_a_busy_machine_says_so():
    busy = figures(others_cores=0.6)
    ratios = compare.compare([figures()] * 6, [busy] * 6)
    assert "other processes used more than 0.25 cores during 6 of 12 runs" in compare.alarms(
        [*[figures()] * 6, *[busy] * 6], ratios
    )


def test_what_is_no_checkout_cannot_be_compared(tmp_path):
    with pytest.raises(ConfigurationError, match="no checkout"):
        compare.Build.at(tmp_path)


def test_a_grid_holds_every_combination():
    axes = [sweep.Vary.parse("inflight=1,8"), sweep.Vary.parse("bundle=auto,16")]
    points = sweep.grid(Options(clients=1), axes)
    assert [(p.options.inflight, p.options.bundle) for p in points] == [(1, None), (1, 16), (8, None), (8, 16)]


@pytest.mark.parametrize("text", ["inflight", "inflight=", "colour=red", "=1"])
def test_an_axis_that_is_none_is_explained(text):
    with pytest.raises(ConfigurationError, match="OPTION=VALUE"):
        sweep.Vary.parse(text)


def test_a_value_that_an_option_does_not_take_is_explained():
    with pytest.raises(ConfigurationError, match="--vary inflight: 'many'"):
        sweep.grid(Options(), [sweep.Vary.parse("inflight=many")])


def test_an_unsafe_run_gives_its_point_no_figures():
    safe = {"verdict": {"safe": True}, "figures": figures()}
    unsafe = {"verdict": {"safe": False}, "figures": None}
    assert sweep.row([safe, unsafe]) == ["", "", "", "", "", "NO"]
    assert sweep.row([safe])[0] == "100"


def test_saturation_is_two_doublings_without_gain():
    assert not sweep.saturated([100, 200, 204])
    assert sweep.saturated([100, 200, 204, 205])


def test_the_knee_has_the_most_throughput_for_its_latency():
    assert sweep.knee([(100, 10), (190, 11), (210, 30)]) == 1


def test_callers_double_beyond_what_one_client_may_have_under_way():
    loads = sweep.loads(Options(clients=1, bundle=1))
    assert [next(loads).callers for _ in range(10)] == [2**i for i in range(10)]


def test_a_ramp_goes_from_its_first_rate_to_its_last():
    rate = Rate.parse("ramp:100..300")
    assert [rate.at(at, 10) for at in (-1, 0, 5, 10, 11)] == [100, 100, 200, 300, 300]


def test_a_schedule_has_as_many_operations_as_its_rate_says():
    assert len(list(Rate.parse("200").schedule(1.0, 4.0, share=0.5))) == pytest.approx(500, abs=1)


@pytest.mark.parametrize("text", ["", "fast", "-1", "0", "ramp:5", "1..2", "ramp:1..x", "inf"])
def test_a_rate_that_is_none_is_explained(text):
    with pytest.raises(ConfigurationError, match="operations a second, as in 2000 or ramp"):
        Rate.parse(text)


def test_an_attack_tries_every_behaviour_between_runs_without_a_fault():
    runs = attack.plan(Options(), [])
    assert [name for name, _ in runs if name != attack.FAULT_FREE] == list(NAMES)
    assert (runs[0][0], runs[-1][0]) == (attack.FAULT_FREE, attack.FAULT_FREE)
    assert all(options.faults[0].replica == 0 for name, options in runs if name != attack.FAULT_FREE)


def test_attacked_runs_are_told_in_units_of_the_median_without_a_fault():
    usual = [{"figures": figures(rate)} for rate in (90.0, 100.0, 500.0)]
    attacked = {"figures": figures(50.0, replicas=[{"id": 1, "evidence": [0]}])}
    rows = attack.rows([*((attack.FAULT_FREE, d) for d in usual), ("silent", attacked), ("lies", {"figures": None})])
    assert rows[1] == ["silent", "0.50", "1.0", "0", "0", "0", "yes"]
    assert rows[2][-1] == "NO"
