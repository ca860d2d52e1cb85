"""Put each published bug into a copy of the code and demand that its scenario fails: `make track-record`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.run import weakened_copy

_TESTS = "tests/sim/test_track_record.py"

# scenario -> the mutant that has the bug
SCENARIOS = {
    "test_a_view_change_that_was_sent_once_and_lost_is_completed_all_the_same": "VIEW-CHANGE is never repeated",
    "test_a_new_view_begins_at_the_highest_checkpoint_of_all_its_view_changes": "the lowest checkpoint starts a view",
    "test_no_request_timer_fires_while_a_view_change_is_under_way": "request timers run in a view change",
    "test_who_missed_everything_catches_up_though_nobody_asks_for_anything_any_more": "who is idle says nothing",
    "test_backups_suspect_a_primary_that_keeps_a_request_to_itself": "only what was proposed is timed",
    "test_a_later_request_that_executed_first_censors_no_earlier_one": "a later number censors earlier ones",
    "test_a_laggard_believes_no_single_answer_of_a_state_transfer": "uncertified batches are executed",
    "test_a_replica_that_was_stopped_and_resumed_comes_back": "only batches bring a laggard up",
    "test_a_proposal_under_the_next_number_to_one_replica_breaks_no_agreement": "COMMITs for other digests count",
    "test_what_one_replica_committed_alone_is_what_the_new_view_begins_with": (
        "the new view ignores prepared certificates"
    ),
    "test_view_numbers_run_away_with_nobody": "joins the largest view",
    "test_a_proposal_that_outruns_the_checkpoint_votes_is_kept": "what is early is dropped",
}


def fails(scenario: str, name: str) -> bool:
    """Whether the scenario fails on the mutant."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    with tempfile.TemporaryDirectory(prefix="bft-mutant-") as directory:
        tree = Path(directory)
        weakened_copy(mutant, tree)
        command = (sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"{_TESTS}::{scenario}")
        return subprocess.run(command, cwd=tree, capture_output=True, check=False).returncode == 1


def main() -> int:
    """Exit code 0 iff each scenario fails on its mutant."""
    blind = [(scenario, name) for scenario, name in SCENARIOS.items() if not fails(scenario, name)]
    for scenario, name in blind:
        sys.stdout.write(f"{scenario} does not notice: {name}\n")
    sys.stdout.write(f"{len(SCENARIOS) - len(blind)} of {len(SCENARIOS)} scenarios notice their bug\n")
    return 1 if blind else 0


if __name__ == "__main__":
    sys.exit(main())
