"""Spans of calls, with OpenTelemetry's API and without it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

import bft
from bft.client import Result
from bft.client.tracing import traced, tracer


class Recorder:
    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}
        self.ended = False

    @contextmanager
    def start_as_current_span(self, name: str, *, kind: object, attributes: dict[str, Any]) -> Iterator["Recorder"]:
        self.attributes = {"name": name, **attributes}
        try:
            yield self
        finally:
            self.ended = True

    def set_attribute(self, name: str, value: object) -> None:
        self.attributes[name] = value


async def test_a_call_is_a_span_that_says_where_it_executed():
    async def call() -> Result:
        return Result(b"", 7)

    spans = Recorder()
    await traced(cast("Any", spans), call, cluster="c", operation=b"abc")
    assert spans.attributes == {"name": "bft.call", "bft.cluster": "c", "bft.operation.size": 3, "bft.seq": 7}
    assert spans.ended


async def test_a_call_that_fails_is_a_span_that_says_how():
    async def call() -> Result:
        raise bft.Timeout("no result", ambiguous=True)

    spans = Recorder()
    with pytest.raises(bft.Timeout):
        await traced(cast("Any", spans), call, cluster="c", operation=b"")
    assert (spans.attributes["error.type"], spans.attributes["bft.ambiguous"]) == ("Timeout", True)
    assert spans.ended


def test_without_opentelemetry_there_is_no_tracer(monkeypatch):
    assert tracer() is not None
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert tracer() is None
