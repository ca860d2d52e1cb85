"""What a set of statuses says about the cluster."""

import json
from typing import Any

from bft.cli.fleet import last_words
from bft.cli.observe import Observation, judge, stuck
from bft.config import Address
from bft.core.quorum import Quorums

FOUR = Quorums.of(4)
ADDRESS = Address("127.0.0.1", 1)


def up(replica: int, **changes: Any) -> Observation:
    peers = [{"id": peer, "connected": True, "trouble": ""} for peer in range(4) if peer != replica]
    status = {
        "id": replica, "view": 0, "primary": 0, "active": True, "last_executed": 8, "transferring": False,
        "stable_checkpoint": {"seq": 0, "root": ""}, "peers": peers, "evidence": [], "queues": {}, "rejections": {},
    }  # fmt: skip
    return Observation(replica, ADDRESS, ADDRESS, status | changes, "")


def down(replica: int) -> Observation:
    return Observation(replica, ADDRESS, ADDRESS, None, "connection refused")


def test_four_replicas_in_one_view_make_progress():
    verdict = judge([up(i) for i in range(4)], FOUR)
    assert verdict.progress
    assert verdict.findings == ()


def test_a_quorum_is_enough():
    verdict = judge([up(0), up(1), up(2), down(3)], FOUR)
    assert verdict.progress
    assert verdict.findings == ("replica 3 does not answer at 127.0.0.1:1: connection refused",)


def test_less_than_a_quorum_makes_no_progress():
    verdict = judge([up(0), up(1), down(2), down(3)], FOUR)
    assert not verdict.progress
    assert verdict.summary == "no progress: 2 of 4 replicas answer, 3 are needed"


def test_without_the_primary_there_is_no_progress_until_the_next_view():
    verdict = judge([down(0), up(1), up(2), up(3)], FOUR)
    assert not verdict.progress
    assert verdict.summary == "no progress until the next view: primary 0 does not answer"


def test_replicas_in_different_views_are_named():
    verdict = judge([up(0), up(1), up(2, view=1, primary=1), up(3, view=1, primary=1)], FOUR)
    assert not verdict.progress
    assert any("views differ" in finding for finding in verdict.findings)


def test_a_view_change_is_named():
    verdict = judge([up(0), up(1), up(2, active=False, view=1), up(3, active=False, view=1)], FOUR)
    assert not verdict.progress
    assert "replica 2 is in a view change, to view 1" in verdict.findings


def test_of_a_replica_that_is_alone_in_a_view_change_it_says_what_will_end_it():
    verdict = judge([up(0), up(1), up(2), up(3, active=False, view=1)], FOUR)
    assert verdict.progress
    assert any("it is alone: the others follow" in finding for finding in verdict.findings)


def test_a_missing_link_between_living_replicas_is_named():
    peers = [{"id": 0, "connected": False, "trouble": "certificate not accepted"}]
    verdict = judge([up(0), up(1, peers=peers), up(2), up(3)], FOUR)
    assert verdict.findings == ("replica 1 has no link to replica 0: certificate not accepted",)


def test_a_laggard_is_named():
    ahead = {"stable_checkpoint": {"seq": 128, "root": "aa"}, "last_executed": 130}
    verdict = judge([up(0, **ahead), up(1, **ahead), up(2, **ahead), up(3)], FOUR)
    assert verdict.findings == ("replica 3 is behind: executed 8, stable is 128",)


def test_a_proven_equivocator_is_named_with_who_can_prove_it():
    proof = {"evidence": [{"accused": 0, "frame": ""}]}
    verdict = judge([up(0), up(1, **proof), up(2, **proof), up(3)], FOUR)
    assert verdict.findings[0].startswith("replica 0 is proven faulty (evidence at 1, 2)")


def test_requests_that_wait_while_nothing_is_executed_are_named():
    before = [up(0, queues={"pending": 3})]
    assert stuck(before, before) == ["replica 0 has 3 requests waiting and executed none within a second"]
    assert stuck(before, [up(0, queues={"pending": 3}, last_executed=9)]) == []


def test_a_flood_of_rejections_is_named():
    found = stuck([up(1)], [up(1, rejections={"stale": 500})])
    assert found == ["replica 1 rejected 500 messages within a second: stale"]


def test_the_last_words_of_a_replica_are_its_error_line():
    assert last_words(['{"event": "serving"}', "error: port in use", '{"event": "late"}']) == "port in use"


def test_the_last_words_of_a_bug_are_the_exception_without_its_traceback():
    line = json.dumps({"event": "stopped by a bug", "exception": "Traceback ...\n  File ...\nKeyError: 3"})
    assert last_words([line]) == "stopped by a bug: KeyError: 3"


def test_the_last_words_may_be_no_json_or_nothing():
    assert last_words(["Killed"]) == "Killed"
    assert last_words([]) == ""


def test_a_replica_that_fetches_the_state_says_how_far_it_is():
    so_far = {"nodes_received": 1200, "bytes_received": 3_400_000, "bytes_per_s": 1_700_000}
    verdict = judge([up(0), up(1), up(2), up(3, transferring=True, transfer=so_far)], FOUR)
    assert verdict.findings == ("replica 3 fetches the state from its peers: 1200 nodes, 3.4 MB so far, 1.7 MB/s",)
    (finding,) = judge([up(0), up(1), up(2), up(3, transferring=True, transfer=None)], FOUR).findings
    assert finding == "replica 3 fetches the state from its peers"
