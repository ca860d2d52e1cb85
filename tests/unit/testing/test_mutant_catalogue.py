"""The catalogue of mutants fits the code as it is now."""

from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.track_record import SCENARIOS

_ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_replaces_stands_in_the_code_exactly_once(mutant: Mutant) -> None:
    """Whoever changes the line decides what the mutant becomes."""
    assert (_ROOT / mutant.path).read_text().count(mutant.old) == 1


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_scenario_of_the_track_record_names_a_mutant() -> None:
    assert set(SCENARIOS.values()) <= {mutant.name for mutant in MUTANTS}
