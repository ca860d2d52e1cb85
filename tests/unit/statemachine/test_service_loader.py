"""Finding the service that a configuration names."""

import sys
import textwrap

import pytest

from bft.statemachine.kv import KeyValue
from bft.statemachine.loader import ServiceNotFound, load_service


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "services_of_this_test.py").write_text(
        textwrap.dedent(
            """
            from bft.statemachine import StateMachine
            class Abstract(StateMachine): pass
            class Picky(StateMachine):
                def __init__(self, size): pass
                def apply(self, ctx, operation): return b""
            class Unrelated: pass
            number = 7
            class Sized(Picky):
                def __init__(self, *, size=1): self.size = size
            """
        )
    )
    (tmp_path / "broken_of_this_test.py").write_text("raise OSError('no disk\\nat all')")
    monkeypatch.syspath_prepend(tmp_path)
    yield "services_of_this_test"
    sys.modules.pop("services_of_this_test", None)


def test_the_built_in_service_is_found():
    assert isinstance(load_service("bft.statemachine.kv:KeyValue"), KeyValue)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "package.module:Class"),
        ("bft.statemachine.kv", "package.module:Class"),
        ("bft.statemachine.kv:", "package.module:Class"),
        (":KeyValue", "package.module:Class"),
        ("..kv:KeyValue", "package.module:Class"),
        ("no_such_module_of_this_test:Class", "No module named"),
        ("broken_of_this_test:Class", "OSError: no disk at all"),
        ("services_of_this_test:Missing", "has no Missing"),
        ("services_of_this_test:Unrelated", "not a subclass"),
        ("services_of_this_test:number", "not a subclass"),
        ("services_of_this_test:Abstract", "abstract"),
        ("services_of_this_test:Picky", "size"),
    ],
)
def test_an_unusable_name_is_explained_in_one_line(module, name, says):
    with pytest.raises(ServiceNotFound) as caught:
        load_service(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_service_is_made_with_the_options_of_the_cluster(module):
    service = load_service(f"{module}:Sized", {"size": 3})
    assert vars(service) == {"size": 3}
    with pytest.raises(ServiceNotFound, match="sizes"):
        load_service(f"{module}:Sized", {"sizes": 3})


def test_options_that_the_key_value_service_cannot_work_with_are_named():
    with pytest.raises(ServiceNotFound, match="history_revisions"):
        load_service("bft.statemachine.kv:KeyValue", {"history_revisions": 0})
