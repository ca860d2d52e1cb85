"""Behaviours as they are written: by combinators, with settings, and what is said to whom errs."""

import random

import pytest

from bft.core.effects import Broadcast, Effect, Send, SendReply
from bft.core.messages import FetchBatches, Refusal
from bft.testing.byzantine import BehaviourContext, parse, pull_trigger
from bft.testing.symbolic import Registry, SymbolicSigner

SECOND = 1_000_000_000
SAID: list[Effect] = [Broadcast(FetchBatches(0))]
TO_EACH: list[Effect] = [Send(replica, FetchBatches(0)) for replica in (1, 2, 3)]


def context(now_s: float = 0, view: int = 0, n: int = 4):
    signer = SymbolicSigner(Registry(n), 0)
    return BehaviourContext(0, n, signer, random.Random(0), int(now_s * SECOND), view=view)


def said(behaviour, **where):
    return behaviour.transform(SAID, context(**where))


def test_after_a_time_the_replica_is_faulty():
    behaviour = parse("after(2s, silent)")
    assert said(behaviour, now_s=1) == SAID
    assert behaviour.wake_ns == 3 * SECOND
    assert said(behaviour, now_s=2.9) == SAID
    assert said(behaviour, now_s=3) == []


def test_until_a_time_the_replica_is_faulty():
    behaviour = parse("until(500ms, silent)")
    assert said(behaviour, now_s=1) == []
    assert said(behaviour, now_s=1.5) == SAID


def test_then_one_behaviour_follows_the_other():
    behaviour = parse("then(silent, 2s, drop_to(targets=2))")
    assert said(behaviour) == []
    assert said(behaviour, now_s=2) == TO_EACH[:1]


@pytest.mark.parametrize(("views", "faulty_in"), [("1", {1}), ("0|2..3", {0, 2, 3}), ("2..", {2, 3, 4})])
def test_in_some_views_the_replica_is_faulty(views, faulty_in):
    behaviour = parse(f"in_view({views}, silent)")
    assert {view for view in range(5) if said(behaviour, view=view) == []} == faulty_in


@pytest.mark.parametrize(
    ("targets", "reached"), [("1|2", [3]), ("f", [1, 2]), ("half", [1, 2]), ("clients", [1, 2, 3]), ("1|f", [2])]
)
def test_towards_some_the_replica_is_faulty(targets, reached):
    assert [effect.to for effect in said(parse(f"only_to({targets}, silent)"))] == reached


@pytest.mark.parametrize(("targets", "answered"), [("1", True), ("1|clients", False)])
def test_clients_are_lied_to_only_where_it_says_so(targets, answered):
    reply = SendReply(b"c" * 32, Refusal(1, 1, "no"))
    sent = parse(f"only_to({targets}, silent)").transform([reply], context())
    assert (sent == [reply]) is answered


def test_with_some_probability_the_replica_is_faulty():
    behaviour = parse("with_probability(0.5, silent)")
    one = context()
    outcomes = [bool(behaviour.transform(SAID, one)) for _ in range(100)]
    assert 20 < sum(outcomes) < 80


def test_on_a_signal_the_replica_becomes_faulty_and_on_the_next_correct_again():
    behaviour = parse("only_to(1|2|3, on_signal(silent))")
    assert said(behaviour) == TO_EACH
    pull_trigger(behaviour)
    assert said(behaviour) == []
    pull_trigger(behaviour)
    assert said(behaviour) == TO_EACH


@pytest.mark.parametrize(
    ("text", "faulty_at_s"),
    [("silent@signal", []), ("silent@after=1.5", [2, 3]), ("silent@2s", [2, 3]), ("silent + silent@1s..3s", [1, 2])],
)
def test_the_short_forms_say_when(text, faulty_at_s):
    behaviour = parse(text)
    assert [now_s for now_s in range(4) if said(behaviour, now_s=now_s) == []] == faulty_at_s


@pytest.mark.parametrize("text", ["drop_to(targets=2)", "drop_to:targets=2", " only_to( 2|3 ,silent ) "])
def test_settings_are_written_either_way(text):
    assert [effect.to for effect in said(parse(text))] == [1]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there are equivocate_split"),
        ("nonsense", "'nonsense' is no behaviour; there are equivocate_split"),
        ("silent+", "one is missing"),
        ("silent)", "join behaviours as A + B"),
        ("silent silent", "join behaviours as A + B"),
        ("delay:ms", "key=integer"),
        ("delay(ms)", "key=integer"),
        ("delay:ms=-1", "cannot be read"),
        ("delay:ms=x", "ms=x is not key=integer"),
        ("delay(hours=3)", "write delay(ms=300)"),
        ("silent(ms=3)", "write silent"),
        ("after(silent)", "write after(TIME, BEHAVIOUR)"),
        ("after(2s)", "write after(TIME, BEHAVIOUR)"),
        ("after(2s, silent", "write after(TIME, BEHAVIOUR)"),
        ("after 2s silent", "write after(TIME, BEHAVIOUR)"),
        ("with_probability(0, silent)", "write with_probability(0..1, BEHAVIOUR)"),
        ("with_probability(1.5, silent)", "no probability"),
        ("only_to(all, silent)", "write only_to(REPLICA|f|half|clients, BEHAVIOUR)"),
        ("in_view(x, silent)", "write in_view(VIEW|FROM..TO, BEHAVIOUR)"),
        ("silent@soon", "write @signal, @after=SECONDS, @8s or @8s..12s"),
        ("silent@after=x", "write @signal"),
        ("silent@9s..3s", "ends before it begins"),
        ("silent@signal@signal", "too much"),
        ("after(1s," * 30 + "silent" + ")" * 30, "combinators in one another"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_that_says_what_does(text, says):
    with pytest.raises(ValueError, match=r"^behaviour ") as refused:
        parse(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
