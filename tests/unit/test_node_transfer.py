"""What a replica tells of a state transfer: often enough to see it move, seldom enough to be read."""

import structlog

from bft.core.effects import CatchingUp
from bft.node.transfer import TransferProgress

SECOND = 1_000_000_000


def at(nodes: int, wanted: int, since_ns: int = 5 * SECOND) -> CatchingUp:
    return CatchingUp(64, nodes, 1_000 * nodes, wanted, since_ns)


def test_the_status_has_nodes_bytes_and_their_rate() -> None:
    progress = TransferProgress()
    assert progress.document(5 * SECOND) is None
    progress.advanced(at(300, 20), 6 * SECOND)
    assert progress.document(7 * SECOND) == {
        "seq": 64,
        "nodes_received": 300,
        "nodes_wanted": 20,
        "bytes_received": 300_000,
        "seconds": 2.0,
        "bytes_per_s": 150_000,
    }


def test_the_log_has_the_first_answer_one_line_a_second_and_the_end() -> None:
    progress = TransferProgress()
    with structlog.testing.capture_logs() as said:
        for tenth in range(1, 26):
            progress.advanced(at(tenth, 9), 5 * SECOND + tenth * SECOND // 10)
        progress.advanced(at(30, 0), 8 * SECOND)
        assert progress.document(8 * SECOND) is None
        progress.advanced(at(1, 1, since_ns=9 * SECOND), 9 * SECOND)  # the next transfer
    assert [(line["event"], line["nodes_received"]) for line in said] == [
        ("catching up", 1),
        ("catching up", 11),
        ("catching up", 21),
        ("state received", 30),
        ("catching up", 1),
    ]
