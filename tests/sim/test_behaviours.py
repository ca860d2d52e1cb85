"""What must hold with each behaviour of the catalogue: safety in every event, and what its entry says."""

import random
from pathlib import Path

import pytest

from bft.testing.behaviours.catalogue import Guilt
from bft.testing.byzantine import CATALOGUE, Entry, draw, parse
from bft.testing.measure import measure
from bft.testing.options import Options
from bft.testing.simulation import scenario

pytestmark = pytest.mark.sim

ALLOWED_EVIDENCE = {Guilt.NONE: ("none",), Guilt.POSSIBLE: ("none", "liar"), Guilt.PROVEN: ("liar",)}


@pytest.mark.parametrize("n", [4, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_with_one_liar_all_holds_that_the_catalogue_promises(entry: Entry, n):
    cost = measure(entry, n)
    assert cost.run.view <= entry.view_max
    assert cost.goodput >= entry.goodput_min
    evidence = {(): "none", (cost.liar,): "liar"}.get(cost.run.accused, f"against {cost.run.accused}")
    assert evidence in ALLOWED_EVIDENCE[entry.guilt]


def test_the_catalogue_says_what_each_behaviour_does_and_what_must_hold():
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert entry.does
        assert entry.make.__doc__ or entry.make.__name__ == "<lambda>"
        assert 0 < entry.goodput_min <= 1


def test_unsigned_requests_are_turned_away_at_the_door_and_counted():
    run = scenario(byzantine=((0, "unsigned_requests"),))
    assert run.rejections["not authentic"] > 0


def test_a_composed_behaviour_is_held_to_the_same_promises():
    run = scenario(byzantine=((0, "then(equivocate_one, 1s, silent) + with_probability(0.3, lying_replies)"),))
    assert run.accused == (0,)


def test_seeds_draw_compositions_that_can_be_written_and_read():
    texts = {draw(random.Random(seed)) for seed in range(300)}
    assert any("(" in text and "+" in text for text in texts)
    for text in texts:
        parse(text)


def test_a_seed_prints_its_composition_for_replay():
    composed = (Options.draw(seed, 4) for seed in range(200))
    options = next(o for o in composed if any("after(" in text for _, text in o.byzantine))
    assert options.byzantine[0][1] in options.describe()


def test_the_documentation_lists_each_behaviour_with_what_must_hold():
    """docs/behaviours.md; `python -m bft.testing.measure` prints its table."""
    text = (Path(__file__).parents[2] / "docs" / "behaviours.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `") and line.count(" | ") == 5]
    assert len(rows) == len(CATALOGUE)
    for row, entry in zip(rows, CATALOGUE, strict=True):
        assert row.startswith(f"| `{entry.usage}` | {entry.role} | {entry.does} | {entry.must} | ")
