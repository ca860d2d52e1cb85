"""Frames out of a stream: limits before allocation, linear time."""

import tracemalloc

import pytest

from bft.codec import FrameSplitter, Limits, MessageType, encode_frame
from bft.core.messages import FetchBatches, Status
from bft.core.parameters import Parameters
from bft.errors import InvalidMessage

LIMITS = Limits.of(Parameters(n=4))
BIG = 1 << 20
BOUNDS: dict[int, int] = {MessageType.PROPOSAL: 8 * BIG, MessageType.STATUS: 40}
STATUS = encode_frame(Status(1, True, 2, 3, 4))


def refusal(data, bounds=LIMITS.peer):
    with pytest.raises(InvalidMessage) as caught:
        FrameSplitter(bounds).feed(data)
    return str(caught.value)


def frame(kind, body, version=1):
    return (len(body) + 2).to_bytes(4, "big") + bytes((version, kind)) + body


def test_a_claimed_4_gib_is_refused_on_seeing_the_length():
    assert "4294967295" in refusal(b"\xff\xff\xff\xff")


def test_a_length_above_every_bound_is_refused_on_seeing_the_length():
    longest = max(LIMITS.peer.values())
    assert FrameSplitter(LIMITS.peer).feed(longest.to_bytes(4, "big")) == []
    assert str(longest + 1) in refusal((longest + 1).to_bytes(4, "big"))


def test_a_length_above_the_bound_of_its_type_is_refused_on_seeing_the_type():
    most = LIMITS.peer[MessageType.STATUS]
    head = bytes((1, MessageType.STATUS))
    assert FrameSplitter(LIMITS.peer).feed(most.to_bytes(4, "big") + head) == []
    assert "type 18" in refusal((most + 1).to_bytes(4, "big") + head)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_frame_too_short_for_a_body_is_refused(length):
    assert refusal(length.to_bytes(4, "big"))


@pytest.mark.parametrize("version", [0, 2, 255])
def test_another_version_is_refused_and_named(version):
    assert f"version {version}" in refusal(frame(MessageType.STATUS, b"\x95", version))


@pytest.mark.parametrize("kind", [0, 2, 8, 32, 49, 255])
def test_a_type_that_the_link_does_not_take_is_refused(kind):
    assert f"type {kind}" in refusal(frame(kind, b"\x90"))


def test_clients_get_through_only_what_clients_and_administrators_send():
    assert set(LIMITS.client) == {
        MessageType.HELLO,
        MessageType.REQUEST,
        MessageType.QUERY,
        MessageType.WATCH,
        MessageType.PROVE,
        MessageType.FETCH_STATE,
    }
    assert "type 18" in refusal(STATUS, LIMITS.client)


def test_a_torn_frame_is_kept_until_its_rest_comes():
    splitter = FrameSplitter(LIMITS.peer)
    assert splitter.feed(STATUS[:7]) == []
    assert splitter.buffered == 7
    assert splitter.feed(STATUS[7:] + STATUS) == [(MessageType.STATUS, STATUS[6:])] * 2
    assert splitter.buffered == 0


@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 64])
def test_dripped_input_gives_the_same_frames(step):
    other = encode_frame(FetchBatches(300))
    stream = (STATUS + other) * 5
    splitter = FrameSplitter(LIMITS.peer)
    frames = [f for at in range(0, len(stream), step) for f in splitter.feed(stream[at : at + step])]
    assert frames == [(MessageType.STATUS, STATUS[6:]), (MessageType.FETCH_BATCHES, other[6:])] * 5


def test_a_refused_stream_is_refused_again():
    splitter = FrameSplitter(LIMITS.peer)
    splitter.feed(STATUS[:2])
    for _ in range(2):
        with pytest.raises(InvalidMessage):
            splitter.feed(b"\xff" * 10)


class CountingSplitter(FrameSplitter):
    """Counts how often the stream is looked at."""

    __slots__ = ("looks",)

    def __init__(self, bounds):
        super().__init__(bounds)
        self.looks = 0

    def _split(self, stream):
        self.looks += 1
        return super()._split(stream)


def test_a_large_frame_that_drips_in_is_looked_at_a_bounded_number_of_times():
    """Linear time: the pieces in between are appended, and nothing else."""
    splitter = CountingSplitter(BOUNDS)
    stream = frame(MessageType.PROPOSAL, bytes(BIG))
    frames = [f for at in range(0, len(stream), 100) for f in splitter.feed(stream[at : at + 100])]
    assert [len(body) for _, body in frames] == [BIG]
    assert splitter.looks <= 4


def test_memory_stays_near_the_size_of_what_arrived():
    """No quadratic copies, no buffer of the claimed size in advance."""
    splitter = FrameSplitter(BOUNDS)
    piece = bytes(1000)
    tracemalloc.start()
    try:
        splitter.feed((8 * BIG).to_bytes(4, "big") + bytes((1, MessageType.PROPOSAL)))
        for _ in range(100):
            splitter.feed(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert splitter.buffered == 100_006
    assert peak < 400_000
