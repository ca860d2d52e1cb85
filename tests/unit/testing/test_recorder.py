"""What becomes part of a history, and with which outcome."""

import asyncio
from itertools import count

import pytest

from bft.client import ClientClosed, Result
from bft.errors import ApplicationError, BftError, NoQuorum, Overloaded, SessionLost, Timeout
from bft.testing.history import Get, Operation, Put, Witness
from bft.testing.recorder import Recorder

PUT = Put(b"k", b"v")


class Scripted:
    """A client whose one answer is known beforehand."""

    def __init__(self, answer: Result | BaseException) -> None:
        self.answer = answer

    async def call(self, operation: bytes, *, timeout: float | None = None) -> Result:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def recorder():
    return Recorder(count().__next__)


async def test_a_result_is_recorded_with_its_place_in_the_order():
    record = recorder()
    await record.perform("c", Scripted(Result(b"\x07", 3)), PUT)
    assert await record.perform("c", Scripted(Result(b"\xc0", 4)), Get(b"k")) is None
    assert record.history == [
        Operation("c", PUT, 0, 1, None, Witness(3, 7)),
        Operation("c", Get(b"k"), 2, 3, None, Witness(4)),
    ]


@pytest.mark.parametrize(
    "error",
    [Timeout("", ambiguous=True), ClientClosed("", ambiguous=True), SessionLost(""), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_have_happened_is_recorded_with_unknown_outcome(error):
    record = recorder()
    with pytest.raises(type(error)):
        await record.perform("c", Scripted(error), PUT)
    assert record.history == [Operation("c", PUT, 0)]


@pytest.mark.parametrize(
    "error",
    [Timeout("", ambiguous=False), ClientClosed(""), Overloaded(""), NoQuorum(""), ApplicationError("bad_key", "")],
    ids=lambda error: type(error).__name__,
)
async def test_what_certainly_changed_nothing_is_not_recorded(error: BftError):
    record = recorder()
    with pytest.raises(type(error)):
        await record.perform("c", Scripted(error), PUT)
    assert record.history == []
