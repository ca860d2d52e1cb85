"""What is remembered of a replica's statements, and who can make it forgotten."""

import pytest

from bft.core import effects as fx
from bft.core.messages import QueryStable, ReplyStable
from tests.paper.stage import Stage


@pytest.mark.parametrize("shown_first", [False, True])
def test_a_liar_cannot_push_out_what_another_said(shown_first):
    """Else it hides from a replica that lost its disk that it did, and convicts it with what it says next."""
    stage = Stage(n=4, me=1)
    window = stage.parameters.window
    last = stage.commit(2, view=3, seq=5, digest=b"x" * 32)
    if shown_first:
        stage.receive(3, last)
    stage.receive(2, last)
    for seq in range(1, 2 * window + 1):  # genuine and old, shown again by replica 3
        stage.receive(3, stage.commit(2, view=0, seq=seq, digest=b"y" * 32))
    new = stage.receive(2, QueryStable(9, 0, 0))
    (reply,) = [e.message for e in new if isinstance(e, fx.Send) and isinstance(e.message, ReplyStable)]
    assert last in reply.votes
