"""Bodies of batches that a Byzantine replica may prove prepared much later (OSDI'99 §4.4)."""

from bft.core.messages import Bodies, FetchBodies, Prepare
from tests.paper.stage import Stage, sent


def accepted_and_superseded() -> tuple[Stage, bytes]:
    """Replica 1 prepared a batch in view 0 at sequence number 1, then saw others there in views 1, 2 and 3.

    The others' prepared certificate for the first is known to replica 3 alone, which shows it in view 4.
    """
    stage = Stage(n=4, me=1)
    first = stage.batch(1)
    stage.receive(0, stage.proposal(seq=1, batch=first))
    for view in (1, 2, 3):
        changes = [stage.view_change(r, view=view) for r in (0, 2, 3)]
        if view == 1:
            continue
        stage.receive(view, stage.new_view(view, changes))
        other = stage.batch(10 + view)
        stage.receive(view, stage.proposal(view=view, seq=1, batch=other))
    return stage, first.digest


def test_a_body_that_we_prepared_is_served_after_another_took_its_place_in_later_views() -> None:
    """Any batch that we signed a PREPARE for may be in somebody's certificate, so its body is owed until stable."""
    stage, digest = accepted_and_superseded()
    (answer,) = sent(stage.receive(0, FetchBodies((digest,))), Bodies)
    assert [b.digest for b in answer.batches] == [digest]


def test_a_new_view_that_re_proposes_what_we_prepared_long_ago_needs_no_fetch() -> None:
    """Else one Byzantine replica with an old certificate stops every later view."""
    stage, digest = accepted_and_superseded()
    proof = stage.prepared(view=0, seq=1, digest=digest)
    changes = [stage.view_change(r, view=4, prepared=(proof,) if r == 3 else ()) for r in (0, 2, 3)]
    happened = stage.receive(0, stage.new_view(4, changes))
    assert [p.digest for p in sent(happened, Prepare)] == [digest]


def test_after_a_crash_such_a_body_is_still_served() -> None:
    stage, digest = accepted_and_superseded()
    stage.restart()
    (answer,) = sent(stage.receive(0, FetchBodies((digest,))), Bodies)
    assert [b.digest for b in answer.batches] == [digest]
