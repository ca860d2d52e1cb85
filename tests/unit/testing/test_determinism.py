"""`check_determinism` finds what would stop a replica at its next checkpoint, and names it."""

import doctest
import sys
import textwrap
from collections.abc import Iterator

import pytest

from bft.statemachine.kv import KeyValue, encode_cas, encode_delete, encode_put
from bft.testing import NotDeterministic, check_determinism, determinism


@pytest.fixture
def services(tmp_path, monkeypatch) -> Iterator[str]:
    (tmp_path / "doubtful_services.py").write_text(
        textwrap.dedent(
            """
            import os, time
            from bft.statemachine import StateMachine
            class Clock(StateMachine):
                def apply(self, ctx, operation):
                    ctx.store.put(b"when", str(time.time_ns()).encode())
                    return b""
            class HashOrder(StateMachine):
                def apply(self, ctx, operation):
                    return b" ".join({b"%d" % number for number in range(50)})
            class Memory(StateMachine):
                def __init__(self): self.calls = 0
                def apply(self, ctx, operation):
                    self.calls += 1
                    return b"%d" % self.calls
            class TimeZone(StateMachine):
                def apply(self, ctx, operation):
                    return time.strftime("%H", time.localtime(0)).encode()
            class Talkative(StateMachine):
                def apply(self, ctx, operation):
                    print("hello")
                    return b""
            class Broken(StateMachine):
                def __init__(self): raise OSError("no such thing")
                def apply(self, ctx, operation): return b""
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "doubtful_services"
    sys.modules.pop("doubtful_services", None)


def test_the_example_in_the_docstring_does_what_it_says():
    ran = doctest.testmod(determinism)
    assert ran.attempted > 0
    assert ran.failed == 0


def test_the_built_in_service_is_deterministic():
    operations = [encode_put(b"a", b"1"), encode_cas(b"a", b"1", b"2"), encode_delete(b"a"), b"nonsense"]
    assert len(check_determinism(KeyValue, operations)) == 32


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ("Clock", "leaves key b'awhen'"),
        ("HashOrder", "gives"),
        ("Memory", "restarted"),
        ("TimeZone", "another time zone"),
    ],
)
def test_what_differs_is_named(services, service, says):
    with pytest.raises(NotDeterministic) as caught:
        check_determinism(f"{services}:{service}", [b"x", b"y"])
    assert says.replace("b'awhen'", "b'when'") in str(caught.value)


def test_the_first_operation_that_differs_is_named(services):
    """A counter in memory is right until the first restart."""
    with pytest.raises(NotDeterministic, match=r"operation 1, b'second'"):
        check_determinism(f"{services}:Memory", [b"first", b"second"])


def test_what_a_service_prints_does_no_harm(services):
    check_determinism(f"{services}:Talkative", [b"x"])


def test_a_service_that_cannot_be_made_is_the_callers_mistake(services):
    with pytest.raises(ValueError, match="no such thing"):
        check_determinism(f"{services}:Broken", [b"x"])


def test_a_service_that_no_other_process_can_import_is_refused():
    class Local(KeyValue):
        pass

    with pytest.raises(ValueError, match="top level of a module"):
        check_determinism(Local, [b"x"])
