"""`python -m bft.testing.run_twins --depth 2 --budget 300`: the enumeration of `bft.testing.twins`, or a sample."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from bft.testing.options import Options
from bft.testing.scheduler import MS
from bft.testing.simulation import simulate
from bft.testing.twins import Scenario, enumerate_scenarios, sample
from bft.testing.violation import Violation


def options_of(scenario: Scenario, n: int) -> Options:
    """The run of a scenario: its rounds are the fault phase."""
    return Options(
        seed=0,
        n=n,
        twins=(scenario.twin,),
        rounds=scenario.rounds,
        fault_phase_ns=sum(length for length, _ in scenario.rounds),
        requests=6,
        think_ns=30 * MS,
    )


def main(arguments: list[str]) -> int:
    """Exit code 1 if a promise did not hold; the command that shows it again is printed."""
    parser = argparse.ArgumentParser(prog="python -m bft.testing.run_twins", description=__doc__)
    parser.add_argument("--depth", type=int, default=2, help="rounds in a scenario")
    parser.add_argument("--budget", type=int, default=300, help="scenarios to run, spread evenly over all there are")
    parser.add_argument("-n", type=int, default=4)
    chosen = parser.parse_args(arguments)
    total = sum(1 for _ in enumerate_scenarios(chosen.n, depth=chosen.depth))
    scenarios = sample(chosen.n, depth=chosen.depth, budget=chosen.budget)
    sys.stdout.write(f"n = {chosen.n}, {chosen.depth} rounds: {total} scenarios, {len(scenarios)} of them run\n")
    came_of_it: Counter[str] = Counter()
    for scenario in scenarios:
        try:
            run = simulate(options_of(scenario, chosen.n))
        except Violation as violation:
            sys.stdout.write(f"VIOLATION {violation}\n")
            came_of_it["violated"] += 1
        else:
            came_of_it["held, twins convicted" if run.accused else "held"] += 1
    sys.stdout.write(", ".join(f"{what}: {count}" for what, count in sorted(came_of_it.items())) + "\n")
    return 1 if came_of_it["violated"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
