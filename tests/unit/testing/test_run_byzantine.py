"""The entry point of faulty replica processes, and the replica it runs."""

import random

import pytest

from bft.core.effects import Broadcast, Effect, Send
from bft.core.events import Event, Instant, Received, Start
from bft.core.messages import Authenticated, Commit, Evidence, FetchBatches
from bft.core.parameters import Parameters
from bft.errors import ExitCode
from bft.statemachine.kv import KeyValue, encode_get
from bft.testing.behaviours.replica import ByzantineReplica, ByzantineState
from bft.testing.byzantine import Behaviour, BehaviourContext, parse
from bft.testing.run_byzantine import main
from bft.testing.symbolic import Registry, SymbolicAdmission, SymbolicSigner

NOW = Instant(10**9, 10**18)


def replica(behaviour: Behaviour) -> ByzantineReplica:
    return ByzantineReplica(
        id=0,
        parameters=Parameters(n=4),
        signer=SymbolicSigner(Registry(4), 0),
        admission=SymbolicAdmission(),
        application=ByzantineState(KeyValue(), behaviour),
        behaviour=behaviour,
        chance=random.Random(0),
    )


def sends(effects: list[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, Send | Broadcast)]


def test_what_its_core_decides_passes_through_the_behaviour():
    assert sends(replica(Behaviour()).step(Start(), NOW))
    assert sends(replica(parse("silent")).step(Start(), NOW)) == []


def test_what_its_core_hears_passes_through_the_behaviour():
    class Deaf(Behaviour):
        def hear(self, event: Event, context: BehaviourContext):
            return ()

    assert replica(Deaf()).step(Start(), NOW) == []


def test_the_host_is_asked_to_come_back_when_the_behaviour_wants_to_speak():
    faulty = replica(parse("delay(ms=5)"))
    faulty.step(Start(), NOW)
    assert faulty.next_deadline_ns == NOW.monotonic_ns + 5_000_000


def test_it_neither_hears_nor_spreads_the_proof_against_itself():
    registry = Registry(4)
    first, second = (registry.mint(Commit(0, 1, digest, 0)) for digest in (b"a" * 32, b"b" * 32))
    faulty = replica(parse("stale"))
    assert sends(faulty.step(Received(1, Evidence(first, second)), NOW)) == []
    assert faulty.evidence == []


def test_a_query_may_be_answered_from_an_old_state():
    state = ByzantineState(KeyValue(), parse("stale_reads"))
    first = state.query(encode_get(b"k"), client=b"c" * 32, client_name="c")
    assert state.query(encode_get(b"k"), client=b"c" * 32, client_name="c") is first


@pytest.mark.parametrize("spec", ["nonsense", "silent@soon", "after(2s)"])
def test_a_senseless_behaviour_is_one_line_and_exit_code_3(tmp_path, capsys, spec):
    assert main([str(tmp_path), "--behaviour", spec]) == ExitCode.CONFIGURATION
    err = capsys.readouterr().err
    assert err.startswith(f"error: behaviour '{spec}'")
    assert err.count("\n") == 1


def test_garbage_keeps_its_statement_and_loses_its_signature():
    statement = Registry(4).mint(Commit(0, 1, b"d" * 32, 0))
    signer = SymbolicSigner(Registry(4), 0)
    context = BehaviourContext(0, 4, signer, random.Random(0), 0)
    sent = parse("garbage_signatures").transform([Send(1, statement), Send(1, FetchBatches(0))], context)
    assert sent[0] == Send(1, Authenticated(statement.message, statement.payload, bytes(64)))
    assert sent[1] == Send(1, FetchBatches(0))
