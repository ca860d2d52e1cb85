"""What the SDK makes of a replica's answers: whose it is, and whether it is fit for a receipt."""

from dataclasses import replace

import pytest

from bft.codec import encode_body, encode_payload
from bft.core.messages import Authenticated, BatchResult, Outcome, Refusal, Reply, ReplyStatus
from bft.errors import InvalidMessage
from crypto import merkle
from tests.unit.auth_messages import CLIENT_KEY, SIGNERS, D, N, forged, gate


def outcome(number):
    return Outcome(CLIENT_KEY.public.raw, 1, number, D, 9, ReplyStatus.EXECUTED, (b"ok",))


def reply(replica=1, index=1):
    outcomes = [outcome(number) for number in range(3)]
    root, paths = merkle.all_proofs([o.leaf for o in outcomes])
    result = SIGNERS[replica].sign(BatchResult(5, 9, root, replica))
    return Reply(outcomes[index], result, index, 3, paths[index])


class TestReplies:
    def test_a_reply_is_read_and_fit_for_a_receipt(self):
        _, body = encode_body(reply())
        opened = gate().open_reply(1, body)
        assert opened == reply()
        assert gate().verify_reply(opened)

    def test_a_reply_in_another_replicas_name_is_refused(self):
        _, body = encode_body(reply(replica=1))
        with pytest.raises(InvalidMessage, match="replica 2 sent a reply of replica 1"):
            gate().open_reply(2, body)

    @pytest.mark.parametrize(
        "wrong",
        [
            replace(reply(), outcome=outcome(7)),
            replace(reply(), index=0),
            replace(reply(), path=()),
            replace(reply(), path=reply().path[::-1]),
            replace(reply(), result=forged(reply().result)),
            replace(reply(), result=SIGNERS[1].sign(BatchResult(5, 9, D, 1))),
        ],
        ids=["outcome", "index", "no path", "path", "signature", "root"],
    )
    def test_a_reply_that_proves_nothing_is_no_receipt(self, wrong):
        assert not gate().verify_reply(wrong)

    def test_a_reply_of_no_replica_is_no_receipt(self):
        message = BatchResult(5, 9, reply().result.message.root, N)
        wrong = replace(reply(), result=Authenticated(message, encode_payload(message), bytes(64)))
        assert not gate().verify_reply(wrong)

    def test_a_refusal_is_read(self):
        refused = Refusal(1, 2, "overloaded")
        _, body = encode_body(refused)
        assert gate().open_refusal(body) == refused
