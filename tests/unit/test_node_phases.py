"""The stamps of a batch's phases: what a benchmark joins with its clients' clocks."""

from bft.core.effects import Accepted
from bft.core.messages import Batch
from bft.node.phases import Phase, Phases
from tests.paper.stage import Stage

STAGE = Stage(n=4, me=1)


def accepted(batch: Batch, *, view: int) -> Accepted:
    return Accepted(STAGE.proposal(seq=5, view=view, batch=batch), None)


def stamps(phases: Phases) -> list[int]:
    found: list[int] = phases.document()["batches"]["5"]
    return found


def test_a_batch_proposed_again_in_a_later_view_keeps_its_first_stamp():
    phases, batch = Phases(), STAGE.batch(1)
    phases.saw(accepted(batch, view=0))
    first = list(stamps(phases))
    phases.saw(accepted(batch, view=1))
    assert stamps(phases) == first


def test_another_batch_at_the_same_number_has_stamps_of_its_own():
    """Else a request sent after the view change would seem to have been proposed before it was sent."""
    phases = Phases()
    phases.saw(accepted(STAGE.batch(1), view=0))
    phases.passed(5, Phase.PREPARED)
    first = list(stamps(phases))
    phases.saw(accepted(STAGE.batch(2), view=1))
    assert stamps(phases)[Phase.PRE_PREPARED] > first[Phase.PRE_PREPARED]
    assert stamps(phases)[Phase.PREPARED] == 0


def test_a_batch_that_was_executed_by_its_certificate_passed_what_came_before_at_that_time():
    phases = Phases()
    phases.saw(accepted(STAGE.batch(1), view=0))
    phases.passed(5, Phase.EXECUTED)
    proposed, *others = stamps(phases)
    phases.passed(5, Phase.COMMITTED)
    phases.saw(accepted(STAGE.batch(1), view=1))
    assert stamps(phases) == [proposed, *others]
    assert others[0] == others[1] == others[2] > proposed


def test_a_batch_known_by_its_certificate_alone_keeps_its_stamps_when_a_view_proposes_it():
    phases = Phases()
    phases.passed(5, Phase.EXECUTED)
    first = list(stamps(phases))
    phases.saw(accepted(STAGE.batch(1), view=1))
    assert stamps(phases) == first
