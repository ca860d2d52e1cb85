"""A receipt proves what happened, and nothing else passes for one."""

import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.auth import KeySigner
from bft.codec.wire import pack
from bft.config import ClusterConfig
from bft.core.messages import Request, RequestKind
from bft.core.parameters import Parameters
from bft.core.quorum import Quorums
from bft.errors import VerificationFailed
from bft.receipt import FILE_BYTES_MAX, FORMAT_VERSION, MAGIC, Receipt, Voucher, make_receipt
from bft.statemachine.results import Error, Ok, encode_error, encode_ok
from crypto.digests import tagged
from tests.unit.client.world import KEY, SESSION, cluster_of, outcome_of, signed_request
from tests.unit.receipts import CLUSTER, badly_signed, receipt_of, signed_reply, vouched

FLIPS = [1 << bit for bit in range(8)] + [0xFF]


def refused(receipt: Receipt, cluster: ClusterConfig = CLUSTER) -> str:
    """Why it is refused, also after it went through a file."""
    with pytest.raises(VerificationFailed) as caught:
        receipt.verify(cluster)
    with pytest.raises(VerificationFailed):
        Receipt.decode(receipt.encode()).verify(cluster)
    return str(caught.value)


# --- what it proves


def test_a_receipt_tells_client_operation_result_place_and_signers():
    proven = receipt_of().verify(CLUSTER)
    assert (proven.cluster, proven.epoch, proven.client, proven.session) == ("test", 0, KEY.public.raw, SESSION)
    assert (proven.operation, proven.result, proven.seq) == (b"operation", Ok(b"result of operation"), 5)
    assert proven.signers == (0, 2)
    for part in (KEY.public.hex(), "operation", "sequence number 5", "replicas 0, 2"):
        assert part in str(proven)


def test_a_receipt_of_a_refused_operation_tells_the_error():
    receipt = receipt_of(results=(encode_error("bad_key", "too long"),))
    assert receipt.verify(CLUSTER).result == Error("bad_key", "too long")


def test_each_operation_of_a_bundle_has_a_receipt_of_its_own():
    bundle = signed_request(b"a", b"b", b"c")
    proven = [receipt_of(bundle, position=position).verify(CLUSTER) for position in range(3)]
    assert [p.operation for p in proven] == [b"a", b"b", b"c"]
    assert [p.result for p in proven] == [Ok(b"result of a"), Ok(b"result of b"), Ok(b"result of c")]


def test_more_signers_than_needed_are_welcome():
    receipt, more = receipt_of(replicas=(0, 2)), receipt_of(replicas=(1, 3))
    every = (receipt.vouchers[0], more.vouchers[0], receipt.vouchers[1], more.vouchers[1])
    assert replace(receipt, vouchers=every).verify(CLUSTER).signers == (0, 1, 2, 3)


@pytest.mark.parametrize("n", [1, 4, 5, 7, 13])
def test_f_plus_one_signers_are_enough_and_f_are_not(n):
    cluster = cluster_of(Parameters(n=n))
    weak = Quorums.of(n).weak
    receipt = receipt_of(replicas=range(weak), cluster=cluster)
    assert len(receipt.verify(cluster).signers) == weak
    if weak > 1:
        assert f"{weak - 1} replicas vouch" in refused(replace(receipt, vouchers=receipt.vouchers[1:]), cluster)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17])
def test_the_path_holds_wherever_in_the_batch_the_request_was(count):
    for place in range(count):
        assert receipt_of(others=count - 1, place=place).verify(CLUSTER).seq == 5


def test_each_replica_may_have_executed_it_in_another_batch_of_replies():
    # A reply that is sent again has a root of its own.
    request = signed_request(b"operation")
    outcome = outcome_of(request)
    replies = [signed_reply(outcome, 0, others=6, place=3), signed_reply(outcome, 1, others=0, place=0)]
    receipt = make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(*replies))
    assert receipt is not None
    assert receipt.verify(CLUSTER).signers == (0, 1)


# --- what is refused


def test_a_receipt_of_another_cluster_or_epoch_is_refused():
    receipt = receipt_of()
    assert "'test' in epoch 0, not of 'other'" in refused(receipt, cluster_of(Parameters(n=4), "other"))
    assert "not of 'test' in epoch 1" in refused(receipt, cluster_of(Parameters(n=4), epoch=1))


def test_a_cluster_that_merely_has_the_same_name_does_not_vouch():
    stranger = cluster_of(Parameters(n=7))
    swapped = replace(CLUSTER, replicas=stranger.replicas[3:])
    assert "did not sign" in refused(receipt_of(), swapped)


def test_a_receipt_relabelled_for_another_cluster_is_refused():
    other = cluster_of(Parameters(n=4), "other")
    assert "not signed by client" in refused(replace(receipt_of(), cluster="other"), other)


def test_one_replica_does_not_count_twice():
    receipt = receipt_of(replicas=(2, 2, 1))  # the client passes over the repetition
    first, second = receipt.vouchers
    assert refused(replace(receipt, vouchers=(second, second))) == "a replica is counted twice"
    again = receipt_of(replicas=(1, 2), others=5).vouchers[0]  # the same replica, another root
    assert refused(replace(receipt, vouchers=(first, again))) == "a replica is counted twice"


def test_a_badly_signed_voucher_spoils_a_receipt_even_if_enough_remain():
    receipt = receipt_of(replicas=(0, 2))
    forged = replace(receipt_of(replicas=(1, 3)).vouchers[1], signature=bytes(64))
    assert "replica 3 did not sign" in refused(replace(receipt, vouchers=(*receipt.vouchers, forged)))


def test_another_operation_is_refused_also_if_the_client_signed_it():
    receipt, other = receipt_of(), signed_request(b"another")
    assert "not signed by client" in refused(replace(receipt, request=other.payload))
    assert "signed no batch with this request" in refused(
        replace(receipt, request=other.payload, signature=other.signature)
    )


def test_another_result_or_sequence_number_is_refused():
    receipt = receipt_of()
    assert "signed no batch" in refused(replace(receipt, results=(encode_ok(b"lie"),)))
    assert "signed no batch" in refused(replace(receipt, seq=6))


def test_a_path_to_another_root_is_refused():
    receipt, other = receipt_of(others=2), receipt_of(others=3)
    first, second = receipt.vouchers
    for path in (other.vouchers[0].path, b"", first.path[:32], first.path + bytes(32)):
        assert "signed no batch" in refused(replace(receipt, vouchers=(replace(first, path=path), second)))
    for sides in (0, 2, 3, 4, 2**64 - 1):
        assert "signed no batch" in refused(replace(receipt, vouchers=(replace(first, sides=sides), second)))


def test_an_operation_that_the_request_does_not_have_is_refused():
    assert "no operation 1" in refused(replace(receipt_of(), position=1))
    assert "no operation" in refused(replace(receipt_of(), position=2**64 - 1))


def test_an_operation_that_was_left_over_is_refused():
    bundle = signed_request(b"a", b"b")
    receipt = receipt_of(bundle, results=(encode_ok(b"large"),))
    assert receipt.verify(CLUSTER).operation == b"a"
    assert "was not executed" in refused(replace(receipt, position=1))


def test_a_registration_is_no_operation():
    register = Request(KEY.public.raw, 0, 1, 0, RequestKind.REGISTER, (b"certificate",))
    receipt = receipt_of(KeySigner(KEY, CLUSTER.domain).sign(register), results=(bytes(8),))
    assert "opens a session" in refused(receipt)


def test_what_is_no_statement_is_refused():
    receipt = receipt_of()
    assert "not a Request" in refused(replace(receipt, request=b"\xff"))
    first, second = receipt.vouchers
    assert "not a BatchResult" in refused(replace(receipt, vouchers=(replace(first, payload=b"\x90"), second)))
    foreign = pack((0, 5, bytes(32), 4))  # there is no replica 4
    assert "no replica 4" in refused(replace(receipt, vouchers=(replace(first, payload=foreign), second)))


# --- the file


@pytest.fixture(scope="module")
def real() -> bytes:
    return receipt_of(others=4, place=2).encode()


def mended(content: bytes) -> bytes:
    """A forger knows how to compute the checksum."""
    return pack((MAGIC, FORMAT_VERSION, content, tagged(b"bft-receipt-v1", content)))


def test_a_file_gives_the_receipt_back_and_has_one_form(tmp_path):
    receipt = receipt_of()
    receipt.save(tmp_path / "x.receipt")
    assert Receipt.load(tmp_path / "x.receipt") == receipt
    assert (tmp_path / "x.receipt").read_bytes() == receipt.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["x.receipt"]


def test_a_lone_operation_is_proven_by_less_than_a_kilobyte():
    assert len(receipt_of(others=255).encode()) < 1024


def test_saving_replaces_an_older_receipt_and_leaves_nothing_behind_where_it_cannot(tmp_path):
    (tmp_path / "x").write_bytes(b"older")
    receipt_of().save(tmp_path / "x")
    assert Receipt.load(tmp_path / "x") == receipt_of()
    (tmp_path / "d" / "sub").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        receipt_of().save(tmp_path / "d")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "x"]


def verifies(data: bytes) -> bool:
    try:
        Receipt.decode(data).verify(CLUSTER)
    except VerificationFailed:
        return False
    return True


def flipped(data: bytes) -> list[bytes]:
    return [data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :] for at in range(len(data)) for flip in FLIPS]


def test_no_file_with_one_byte_changed_is_accepted(real):
    assert verifies(real)
    assert not any(verifies(changed) for changed in flipped(real))


def test_no_byte_can_be_changed_by_a_forger_who_mends_the_checksum(real):
    content = msgpack.unpackb(real)[2]
    assert mended(content) == real
    assert not any(verifies(mended(changed)) for changed in flipped(content))


def test_in_a_bundle_a_forger_can_only_point_at_another_operation_that_really_happened():
    receipt = receipt_of(signed_request(b"a", b"b"), position=0)
    content = msgpack.unpackb(receipt.encode())[2]
    accepted = [Receipt.decode(mended(c)) for c in flipped(content) if verifies(mended(c))]
    assert accepted == [replace(receipt, position=1)]
    assert accepted[0].verify(CLUSTER).result == Ok(b"result of b")


def test_no_file_that_was_cut_or_prolonged_is_accepted(real):
    assert not any(verifies(real[:length]) for length in range(len(real)))
    assert not any(verifies(real + bytes([byte])) for byte in range(256))


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_they_are_refused_with_a_reason(data):
    for hostile in (data, mended(data)):
        with pytest.raises(VerificationFailed):
            Receipt.decode(hostile)


_plain = st.one_of(
    st.binary(max_size=70), st.integers(-1, 2**64 - 1), st.text(max_size=5), st.none(), st.floats(), st.booleans()
)
_values = st.recursive(_plain, lambda inner: st.lists(inner, max_size=9), max_leaves=20)


@given(st.lists(_values, min_size=8, max_size=8), st.lists(_values, max_size=4), st.lists(_values, max_size=4))
def test_fields_of_any_kind_are_refused_with_a_reason(fields, results, vouchers):
    fields[0] = "test"
    fields[6], fields[7] = msgpack.packb(results), msgpack.packb([msgpack.packb(voucher) for voucher in vouchers])
    for hostile in (msgpack.packb(fields), msgpack.packb([fields, fields, fields, fields])):
        for data in (hostile, mended(hostile)):
            with pytest.raises(VerificationFailed):
                Receipt.decode(data).verify(CLUSTER)


def test_a_file_of_another_format_version_says_so():
    content = msgpack.unpackb(receipt_of().encode())[2]
    newer = pack((MAGIC, 2, content, tagged(b"bft-receipt-v1", content)))
    with pytest.raises(VerificationFailed, match="format version 2, and this program reads 1"):
        Receipt.decode(newer)


def test_an_endless_file_is_refused_unread():
    with pytest.raises(VerificationFailed, match=f"more than {FILE_BYTES_MAX} bytes"):
        Receipt.load("/dev/zero")


BOMBS: dict[str, Callable[[int], bytes]] = {
    "nested": lambda size: b"\x94" + b"\x91\x91\x91\x00" * (size // 4),
    "nested in the content": lambda size: mended(b"\x98" + b"\x91\x91\x91\x00" * (size // 4)),
    "many results": lambda size: mended(
        pack(("test", 0, b"", bytes(64), 0, 0, b"\xdd\x00\xff\xff\xff" + b"\x90" * size, b"\x91\xc4\x00"))
    ),
    "claimed": lambda _: b"\xdd\xff\xff\xff\xff",
    "claimed bytes": lambda _: b"\x94\xc6\xff\xff\xff\xff",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_hostile_file_does_not_make_its_reader_use_much_more_memory_than_it_has(bomb):
    data = BOMBS[bomb](1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(VerificationFailed):
            Receipt.decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


# --- making one


def test_badly_signed_replies_are_passed_over():
    request = signed_request(b"operation")
    outcome = outcome_of(request)
    replies = [signed_reply(outcome, replica) for replica in range(4)]
    made = make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(badly_signed(replies[0]), *replies[1:]))
    assert made is not None
    assert made.verify(CLUSTER).signers == (1, 2)


def test_a_reply_whose_path_leads_elsewhere_is_passed_over():
    request = signed_request(b"operation")
    outcome = outcome_of(request)
    good, other = signed_reply(outcome, 0), signed_reply(replace(outcome, seq=6), 1)
    assert make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(good, other)) is None


def test_without_f_plus_one_good_replies_there_is_no_receipt():
    request = signed_request(b"operation")
    outcome = outcome_of(request)
    good = signed_reply(outcome, 0)
    bad = badly_signed(signed_reply(outcome, 1))
    assert make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(good, bad)) is None
    assert make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(good, good)) is None


def test_a_reply_with_a_path_of_any_length_makes_no_trouble():
    request = signed_request(b"operation")
    outcome = outcome_of(request)
    long = replace(signed_reply(outcome, 0), path=(bytes(32),) * 64, index=2**64 - 2, count=2**64 - 1)
    assert make_receipt(CLUSTER, request, outcome, position=0, vouched=vouched(long)) is None
    assert Voucher.of(vouched(long)[0]).sides < 2**64
