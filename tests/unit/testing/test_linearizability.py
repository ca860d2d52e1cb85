"""What the linearizability checker accepts, what it refuses, and what it shows for it."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bft.testing.history import Cas, Delete, Get, Listing, Operation, Put, Range, Swap, Witness
from bft.testing.linearizability import Judgement, check, check_by_witness

X, Y = b"x", b"y"


def op(action, invoked, returned, result=None, at=None, client="c"):
    """`at` is the seq, or (seq, index)."""
    witness = None if at is None else Witness(at) if isinstance(at, int) else Witness(*at)
    return Operation(client, action, invoked, returned, result, witness)


# --- hand-written histories, judged by search


ACCEPTED = {
    "nothing happened": [],
    "a read of an absent key": [op(Get(X), 0, 1, None)],
    "a read of what was written": [op(Put(X, b"1"), 0, 1), op(Get(X), 2, 3, b"1")],
    "a read during a write sees the new value": [op(Put(X, b"1"), 0, 9), op(Get(X), 1, 2, b"1")],
    "a read during a write sees the old value": [op(Put(X, b"1"), 0, 9), op(Get(X), 1, 2, None)],
    "concurrent writes, the first stays": [op(Put(X, b"1"), 0, 9), op(Put(X, b"2"), 1, 8), op(Get(X), 10, 11, b"1")],
    "concurrent writes, the second stays": [op(Put(X, b"1"), 0, 9), op(Put(X, b"2"), 1, 8), op(Get(X), 10, 11, b"2")],
    "equal times say nothing": [op(Put(X, b"1"), 0, 5), op(Get(X), 5, 6, None)],
    "keys do not disturb each other": [op(Put(X, b"1"), 0, 1), op(Get(Y), 2, 3, None)],
    "an unknown put that takes effect late": [
        op(Put(X, b"1"), 0, None),
        op(Put(X, b"2"), 1, 2),
        op(Get(X), 3, 4, b"2"),
        op(Get(X), 5, 6, b"1"),
    ],
    "an unknown put that never takes effect": [op(Put(X, b"1"), 0, None), op(Get(X), 1, 2, None)],
    "an unknown delete before a write that is read as absent": [
        op(Put(X, b"1"), 0, 1),
        op(Delete(X), 2, None),
        op(Get(X), 3, 4, b"1"),
        op(Get(X), 5, 6, None),
    ],
    "an unknown cas upon an unknown put": [
        op(Put(X, b"1"), 0, None),
        op(Cas(X, b"1", b"2"), 0, None),
        op(Get(X), 1, 2, None),
        op(Get(X), 3, 4, b"2"),
    ],
    "two unknown puts of one value, both seen": [
        op(Put(X, b"1"), 0, None),
        op(Put(X, b"1"), 0, None),
        op(Get(X), 1, 2, b"1"),
        op(Put(X, b"2"), 3, 4),
        op(Get(X), 5, 6, b"1"),
    ],
    "a delete that finds what an unknown put left": [op(Put(X, b"1"), 0, None), op(Delete(X), 1, 2, True)],
    "cas creates, replaces, refuses and deletes": [
        op(Cas(X, None, b"1"), 0, 1, Swap(True, None)),
        op(Cas(X, b"1", b"2"), 2, 3, Swap(True, b"1")),
        op(Cas(X, b"1", b"3"), 4, 5, Swap(False, b"2")),
        op(Cas(X, b"2", None), 6, 7, Swap(True, b"2")),
        op(Delete(X), 8, 9, False),
    ],
    "of two concurrent cas one wins": [
        op(Cas(X, None, b"1"), 0, 9, Swap(False, b"2")),
        op(Cas(X, None, b"2"), 0, 9, Swap(True, None)),
    ],
    "a range with a limit says nothing of what is beyond": [
        op(Put(X, b"1"), 0, 1),
        op(Put(Y, b"2"), 2, 3),
        op(Range(b"a"), 4, 5, Listing(((X, b"1"),), more=True)),
    ],
}

REFUSED = {
    "a stale read": [op(Put(X, b"1"), 0, 1), op(Put(X, b"2"), 2, 3), op(Get(X), 4, 5, b"1")],
    "a stale read of absence": [op(Put(X, b"1"), 0, 1), op(Get(X), 2, 3, None)],
    "a read of what nobody wrote": [op(Put(X, b"1"), 0, 1), op(Get(X), 2, 3, b"7")],
    "a read of what is written only later": [op(Get(X), 0, 1, b"1"), op(Put(X, b"1"), 2, 3)],
    "a lost update": [
        op(Put(X, b"0"), 0, 1),
        op(Cas(X, b"0", b"1"), 2, 9, Swap(True, b"0")),
        op(Cas(X, b"0", b"2"), 3, 8, Swap(True, b"0")),
    ],
    "a value that goes back": [
        op(Put(X, b"1"), 0, 9),
        op(Put(X, b"2"), 0, 9),
        op(Get(X), 10, 11, b"1"),
        op(Get(X), 12, 13, b"2"),
    ],
    "two readers who disagree on the order of two writes": [
        op(Put(X, b"1"), 0, 30),
        op(Put(X, b"2"), 0, 30),
        op(Get(X), 1, 2, b"1"),
        op(Get(X), 3, 4, b"2"),
        op(Get(X), 5, 6, b"1"),
    ],
    "an unknown put seen before it was invoked": [op(Get(X), 0, 1, b"1"), op(Put(X, b"1"), 2, None)],
    "an unknown put that takes effect twice": [
        op(Put(X, b"1"), 0, None),
        op(Get(X), 1, 2, b"1"),
        op(Put(X, b"2"), 3, 4),
        op(Get(X), 5, 6, b"1"),
    ],
    "a delete of what is absent": [op(Delete(X), 0, 1, True)],
    "a delete that misses what is there": [op(Put(X, b"1"), 0, 1), op(Delete(X), 2, 3, False)],
    "a cas that swaps what it did not expect": [op(Cas(X, b"1", b"2"), 0, 1, Swap(True, None))],
    "a cas that refuses what it expected": [op(Cas(X, None, b"2"), 0, 1, Swap(False, None))],
    "both of two concurrent cas win": [
        op(Cas(X, None, b"1"), 0, 9, Swap(True, None)),
        op(Cas(X, None, b"2"), 0, 9, Swap(True, None)),
    ],
    "a range that misses a key": [op(Put(X, b"1"), 0, 1), op(Range(b"a"), 2, 3, Listing(()))],
    "a range with a key that was never written": [op(Range(b"a"), 0, 1, Listing(((Y, b"1"),)))],
    "a range that lists a key outside of it": [op(Range(b"a", b"x"), 0, 1, Listing(((X, b"1"),)))],
}


@pytest.mark.parametrize("history", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(history):
    verdict = check(history)
    assert verdict.judgement is Judgement.LINEARIZABLE, str(verdict)


@pytest.mark.parametrize("history", REFUSED.values(), ids=REFUSED)
def test_refused(history):
    assert check(history).judgement is Judgement.NOT_LINEARIZABLE


def test_the_order_in_which_a_history_is_written_down_does_not_matter():
    assert check(list(reversed(ACCEPTED["an unknown put that takes effect late"])))
    assert not check(list(reversed(REFUSED["a stale read"])))


def test_a_history_may_begin_with_values():
    history = [op(Get(X), 0, 1, b"1"), op(Delete(X), 2, 3, True)]
    assert check(history, initial={X: b"1"})
    assert not check(history)
    assert not check([op(Range(b"a"), 0, 1, Listing(()))], initial={X: b"1"})


def test_a_result_of_the_wrong_kind_is_the_callers_mistake():
    with pytest.raises(TypeError):
        check([op(Delete(X), 0, 1, None)])
    with pytest.raises(ValueError, match="before it was invoked"):
        op(Get(X), 1, 0)


# --- budget and counterexamples


def hard_history(values):
    """Each value is written twice, nobody can say when, and the last read is wrong: many orders have to be tried."""
    writes = [op(Put(X, b"%d" % (i % values)), 0, 1000) for i in range(2 * values)]
    reads = [op(Get(X), 10 * i + 1, 10 * i + 5, b"%d" % i) for i in range(values)]
    return [*writes, *reads, op(Get(X), 999, 999, b"never written")]


def test_when_the_budget_ends_there_is_no_verdict_and_that_is_no_success():
    history = hard_history(6)
    verdict = check(history, budget=50)
    assert verdict.judgement is Judgement.NO_VERDICT
    assert not verdict
    assert verdict.explored == 50
    assert check(history).judgement is Judgement.NOT_LINEARIZABLE


def test_a_key_that_is_at_fault_decides_although_another_has_no_verdict():
    history = [*hard_history(6), op(Get(Y), 0, 1, b"never written")]
    verdict = check(history, budget=50)
    assert verdict.judgement is Judgement.NOT_LINEARIZABLE
    assert verdict.counterexample is not None
    assert verdict.counterexample.key == Y


def test_the_counterexample_is_the_few_operations_that_have_no_order():
    noise = [op(Put(X, b"n%d" % i), 10 * i, 10 * i + 5) for i in range(50)]
    noise += [op(Get(X), 10 * i + 6, 10 * i + 9, b"n%d" % i) for i in range(50)]
    stale = [op(Put(X, b"1"), 1000, 1001), op(Put(X, b"2"), 1002, 1003), op(Get(X), 1004, 1005, b"1")]
    later = [op(Put(X, b"l%d" % i), 2000 + i, 2000 + i) for i in range(50)]
    found = check([*noise, *stale, *later]).counterexample
    assert found is not None
    assert found.key == X
    assert found.operations == tuple(stale)


def test_a_counterexample_keeps_the_write_of_what_was_read():
    """Without the put of 1 the read would look like one of a value that nobody wrote."""
    found = check(REFUSED["a stale read"]).counterexample
    assert found is not None
    assert found.operations == tuple(REFUSED["a stale read"])


def test_a_counterexample_reads_as_a_list_of_operations():
    history = [
        op(Put(X, b"1"), 5_000_000, 6_000_000, client="alice"),
        op(Delete(X), 6_500_000, None, client="bob"),
        op(Get(X), 7_000_000, 7_500_000, b"2", at=(3, 1), client="carol"),
    ]
    assert str(check(history)) == (
        "not linearizable: key b'x': no order of these operations explains their results\n"
        "  carol: get b'x' => b'2' [0.000 .. 0.500 ms] seq 3 index 1"
    )
    assert str(check(history[:2])) == "linearizable (1 configurations explored)"


# --- the order of the witnesses


def test_the_witness_order_explains_what_real_time_allows():
    history = [
        op(Put(X, b"1"), 0, 10, at=(2, 1)),
        op(Put(X, b"2"), 0, 10, at=(1, 1)),
        op(Get(X), 11, 12, b"1", at=(3, 1)),
    ]
    assert check_by_witness(history)


def test_a_witness_order_that_does_not_explain_the_results_is_refused_though_another_order_would():
    history = [
        op(Put(X, b"1"), 0, 10, at=(1, 1)),
        op(Put(X, b"2"), 0, 10, at=(2, 1)),
        op(Get(X), 11, 12, b"1", at=(3, 1)),
    ]
    assert check(history)
    verdict = check_by_witness(history)
    assert verdict.counterexample is not None
    assert "sequence numbers" in verdict.counterexample.reason
    assert verdict.counterexample.operations == tuple(history)


def test_a_witness_order_against_real_time_is_refused_also_between_keys():
    history = [op(Put(X, b"1"), 0, 1, at=(2, 1)), op(Put(Y, b"1"), 2, 3, at=(1, 1))]
    assert check(history)
    found = check_by_witness(history).counterexample
    assert found is not None
    assert found.operations == tuple(history)
    assert found.key is None


def test_two_operations_cannot_have_one_place():
    history = [op(Put(X, b"1"), 0, 5, at=(1, 1)), op(Put(Y, b"1"), 0, 5, at=(1, 1))]
    found = check_by_witness(history).counterexample
    assert found is not None
    assert "same place" in found.reason


def test_operations_without_index_may_be_anywhere_in_their_batch_but_not_outside():
    def history(read_at):
        return [
            op(Put(X, b"1"), 0, 10, at=(1, 1)),
            op(Put(X, b"2"), 0, 10, at=(1, 2)),
            op(Get(X), 0, 10, b"1", at=read_at),
        ]

    assert check_by_witness(history(1))
    assert not check_by_witness(history(2))
    assert not check_by_witness(history((1, 3)))


def test_what_returned_earlier_is_in_an_earlier_batch_or_has_the_lower_index():
    first, second = op(Get(X), 0, 1, None, at=1), op(Get(X), 2, 3, None, at=1)
    assert not check_by_witness([first, second])
    assert not check_by_witness([first, replace(second, witness=Witness(1, 1))])
    assert check_by_witness([replace(first, witness=Witness(1, 1)), replace(second, witness=Witness(1, 2))])
    assert check_by_witness([first, replace(second, witness=Witness(2))])


def test_an_operation_with_unknown_outcome_needs_no_witness_and_one_with_known_outcome_does():
    unknown = op(Put(X, b"1"), 5, None)
    assert check_by_witness([unknown, op(Get(X), 6, 7, None, at=1), op(Get(X), 8, 9, b"1", at=2)])
    assert not check_by_witness([unknown, op(Get(X), 6, 7, b"1", at=1), op(Get(X), 8, 9, None, at=2)])
    assert not check_by_witness([unknown, op(Get(X), 0, 1, b"1", at=1)])
    with pytest.raises(ValueError, match="no witness"):
        check_by_witness([op(Get(X), 0, 1)])


def test_only_the_witness_order_sees_that_a_range_mixed_two_moments():
    history = [
        op(Put(X, b"1"), 0, 10, at=(1, 1)),
        op(Put(Y, b"1"), 11, 20, at=(2, 1)),
        op(Range(b"a"), 0, 30, Listing(((Y, b"1"),)), at=(3, 1)),
    ]
    assert check(history)
    assert not check_by_witness(history)
    whole = op(Range(b"a"), 0, 30, Listing(((X, b"1"), (Y, b"1"))), at=(3, 1))
    assert check_by_witness([*history[:2], whole])


# --- against a checker that tries every order


def apply(state, action):
    """One operation of the service on a dict; its result."""
    match action:
        case Put(key, value):
            state[key] = value
            return None
        case Get(key):
            return state.get(key)
        case Delete(key):
            return state.pop(key, None) is not None
        case Cas(key, expected, new):
            previous = state.get(key)
            if previous != expected:
                return Swap(False, previous)
            state.pop(key, None)
            if new is not None:
                state[key] = new
            return Swap(True, previous)
        case Range():
            return Listing(tuple((key, state[key]) for key in sorted(state) if action.covers(key)))
    raise AssertionError(action)


def has_an_order(operations, state, *, by_witness=False):
    """Try every order of all that returned, and of any of the others."""
    returned = [o for o in operations if o.returned_ns is not None]
    if not returned:
        return True
    limit = min(o.returned_ns for o in returned)
    first = min(((o.witness.seq, o.witness.index) for o in returned), default=None) if by_witness else None
    for at, chosen in enumerate(operations):
        if chosen.invoked_ns > limit:
            continue
        known = chosen.returned_ns is not None
        if known and by_witness and (chosen.witness.seq, chosen.witness.index) != first:
            continue
        after = dict(state)
        result = apply(after, chosen.action)
        if known and result != chosen.result:
            continue
        if has_an_order([*operations[:at], *operations[at + 1 :]], after, by_witness=by_witness):
            return True
    return False


keys = st.sampled_from([X, Y])
values = st.sampled_from([b"1", b"2", b"3"])
maybe = st.none() | values
writes = st.builds(Put, keys, values) | st.builds(Delete, keys) | st.builds(Cas, keys, maybe, maybe)
actions = st.builds(Get, keys) | writes
results_of = {
    Put: st.none(),
    Get: maybe,
    Delete: st.booleans(),
    Cas: st.builds(Swap, st.booleans(), maybe),
    Range: st.lists(st.tuples(keys, values), unique_by=lambda item: item[0]).map(lambda i: Listing(tuple(sorted(i)))),
}


@st.composite
def executions(draw, sizes, choice):
    """Batches executed in order; each operation was invoked before its batch and returned after it, or never."""
    state: dict[bytes, bytes] = {}
    history = []
    indexed = draw(st.booleans())
    for seq in range(1, draw(sizes)):
        for index in range(draw(st.integers(1, 3))):
            action = draw(choice)
            invoked = 10 * seq - draw(st.integers(0, 25))
            if draw(st.integers(0, 5)) == 0:
                if draw(st.booleans()):
                    apply(state, action)
                history.append(op(action, invoked, None))
            else:
                result = apply(state, action)
                at = (seq, index) if indexed or isinstance(action, Range) else seq
                history.append(op(action, invoked, 10 * seq + draw(st.integers(0, 25)), result, at))
    return history


@given(executions(st.integers(1, 25), actions | st.just(Range(b"a")) | st.just(Range(X, Y))))
def test_a_history_that_was_really_executed_is_accepted(history):
    by_search, by_witness = check(history), check_by_witness(history)
    assert by_search.judgement is Judgement.LINEARIZABLE, str(by_search)
    assert by_witness.judgement is Judgement.LINEARIZABLE, str(by_witness)


@st.composite
def any_histories(draw):
    history = []
    for _ in range(draw(st.integers(1, 7))):
        action = draw(actions)
        invoked = draw(st.integers(0, 12))
        if draw(st.integers(0, 3)) == 0:
            history.append(op(action, invoked, None))
        else:
            history.append(op(action, invoked, invoked + draw(st.integers(0, 8)), draw(results_of[type(action)])))
    return history


@given(any_histories())
def test_search_agrees_with_trying_every_order(history):
    verdict = check(history)
    assert bool(verdict) == has_an_order(history, {})
    if verdict.counterexample is not None:
        assert not has_an_order(list(verdict.counterexample.operations), {})


def forged(history, data):
    """The history with one result that is not what it was, unless it happens to be."""
    known = [at for at, operation in enumerate(history) if operation.returned_ns is not None]
    if not known:
        return history
    at = data.draw(st.sampled_from(known))
    result = data.draw(results_of[type(history[at].action)])
    return [*history[:at], replace(history[at], result=result), *history[at + 1 :]]


@given(executions(st.integers(1, 5), actions), st.data())
def test_a_forged_result_is_found_if_it_is_impossible(history, data):
    history = forged(history, data)
    assert bool(check(history)) == has_an_order(history, {})


@given(executions(st.integers(1, 5), actions | st.just(Range(b"a"))), st.data())
def test_a_forged_result_is_found_if_it_contradicts_the_witness_order(history, data):
    history = forged(history, data)
    if all(o.witness is None or o.witness.index is not None for o in history):
        verdict = check_by_witness(history)
        assert bool(verdict) == has_an_order(history, {}, by_witness=True)
        if verdict.counterexample is not None:
            assert not has_an_order(list(verdict.counterexample.operations), {}, by_witness=True)


def busy_history(*, clients, operations, keys, seed):
    """Clients that wait for each answer; the service executes one operation at a time in between."""
    source = random.Random(seed)
    state: dict[bytes, bytes] = {}
    free_at = [0] * clients
    history = []
    for number in range(clients * operations):
        client = min(range(clients), key=free_at.__getitem__)
        key, value = b"%d" % source.randrange(keys), b"%d" % number
        kind = source.random()
        held = state.get(key)
        action = Put(key, value) if kind < 0.4 else Get(key) if kind < 0.8 else Cas(key, held, value)
        moment = free_at[client] + source.randrange(1, 100)
        history.append((moment, client, action, free_at[client]))
        free_at[client] = moment + source.randrange(1, 100)
    executed = []
    for seq, (moment, client, action, invoked) in enumerate(sorted(history, key=lambda entry: entry[0])):
        result = apply(state, action)
        witness = (seq, 0)
        executed.append(op(action, invoked, moment + source.randrange(1, 100), result, witness, f"c{client}"))
    return executed


def test_a_lost_write_is_found_in_a_long_history_of_many_clients():
    history = busy_history(clients=10, operations=200, keys=5, seed=1)
    assert check(history)
    assert check_by_witness(history)
    reads = [at for at, operation in enumerate(history) if isinstance(operation.action, Get)]
    at = reads[len(reads) // 2]
    history[at] = replace(history[at], result=b"0")  # long overwritten
    for verdict in (check(history), check_by_witness(history)):
        assert verdict.counterexample is not None
        assert history[at] in verdict.counterexample.operations
        assert len(verdict.counterexample.operations) <= 4
