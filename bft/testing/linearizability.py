"""Is a key-value history linearizable?  Two answers: by search, and by the order that the replies claim.

`check` finds an order by itself, one key at a time: a history is linearizable iff each key's part is (Herlihy & Wing).
It takes a range for separate reads of its keys, and so does not see that a range mixed two moments.

`check_by_witness` takes the sequence number in each reply for the order and checks that this one is right, in
O(n log n): it agrees with real time across all keys, and each operation, a range included, saw what the order says.
It is the stronger claim, and the only check of ranges across keys; of a range without index it says only that each key
held what was listed at some moment of the batch.

Both judge values, not revisions: a history says most if each write has a value of its own.  Operations with unknown
outcome may take effect at any time after their invocation, or never.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from itertools import pairwise
from typing import Final

from bft.testing.history import Cas, Delete, Get, Listing, Observed, Operation, Put, Range, Swap, Witness
from bft.testing.register_search import ABSENT, ANYTHING, IMPOSSIBLE, KEEP, PRESENT, Step, search, shrink

BUDGET: Final = 500_000  # configurations a key: some seconds and, at worst, a few hundred MB
_SHRINK_BUDGET: Final = 100_000

_NO_ORDER: Final = "no order of these operations explains their results"
_NOT_BY_WITNESS: Final = "the order of their sequence numbers does not explain the results of these operations"
_SAME_PLACE: Final = "two operations claim the same place in the order"
_AGAINST_TIME: Final = "the first returned before the second was invoked, but its sequence number is not the lower one"
_BAD_LISTING: Final = "the result has keys out of order or out of the range"

_Span = tuple[int, int | None]  # when an operation may have taken effect, in any unit
_Place = tuple[int, int]  # first and last possible rank in the order of the witnesses
_Timing = tuple[list[_Span], dict[int, int]]  # also: which operation is the reason why one may not take effect earlier
_Meaning = tuple[int, int]  # `requires` and `writes` of a Step


@unique
class Judgement(Enum):
    """What a checker found."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    NO_VERDICT = "no verdict"  # the budget ended the search: to be treated as a failure


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Operations that cannot be ordered, few of them: what the reason does not need is left out."""

    reason: str
    operations: tuple[Operation, ...]  # by invocation
    key: bytes | None = None  # None: the reason is no single key's

    def __str__(self) -> str:
        origin = min(operation.invoked_ns for operation in self.operations)
        head = self.reason if self.key is None else f"key {self.key!r}: {self.reason}"
        return "\n".join([head, *(_line(operation, origin) for operation in self.operations)])


@dataclass(frozen=True, slots=True)
class Verdict:
    """True in a condition iff the history is known to be linearizable."""

    judgement: Judgement
    explored: int = 0  # configurations, over all keys
    counterexample: Counterexample | None = None  # iff not linearizable

    def __bool__(self) -> bool:
        return self.judgement is Judgement.LINEARIZABLE

    def __str__(self) -> str:
        if self.counterexample is not None:
            return f"{self.judgement.value}: {self.counterexample}"
        return f"{self.judgement.value} ({self.explored} configurations explored)"


def check(
    history: Iterable[Operation], *, initial: Mapping[bytes, bytes] | None = None, budget: int = BUDGET
) -> Verdict:
    """Whether some order explains the history, which began with `initial`.  Ignores witnesses.

    Explores at most `budget` configurations a key; NO_VERDICT if that was not enough for some key and no other is at
    fault.
    """
    operations = sorted(history, key=lambda operation: operation.invoked_ns)
    spans: list[_Span] = [(operation.invoked_ns, operation.returned_ns) for operation in operations]
    return _check_results(operations, (spans, {}), initial or {}, budget, _NO_ORDER)


def check_by_witness(
    history: Iterable[Operation], *, initial: Mapping[bytes, bytes] | None = None, budget: int = BUDGET
) -> Verdict:
    """Whether the order of the witnesses explains the history, which began with `initial`.

    Within a batch, operations without index may be in any order.  What returned before another was invoked must be in
    an earlier batch or have the lower index: no reply precedes the execution of its batch.  Raises ValueError if an
    operation with known outcome has no witness.
    """
    operations = sorted(history, key=lambda operation: operation.invoked_ns)
    ranks = _ranks(operations)
    if isinstance(ranks, Counterexample):
        return Verdict(Judgement.NOT_LINEARIZABLE, counterexample=ranks)
    timing = _in_real_time(operations, ranks)
    if isinstance(timing, Counterexample):
        return Verdict(Judgement.NOT_LINEARIZABLE, counterexample=timing)
    return _check_results(operations, timing, initial or {}, budget, _NOT_BY_WITNESS)


# --- the order of the witnesses ---------------------------------------------------------------------------------------


def _ranks(operations: Sequence[Operation]) -> list[_Place | None] | Counterexample:
    """First and last possible place, from 1, of each operation in the order; None where the outcome is unknown."""
    places: dict[int, dict[int, Operation]] = {}
    for operation in operations:
        if operation.returned_ns is None:
            continue
        if operation.witness is None:
            raise ValueError(f"{operation.action} of {operation.client} returned, but has no witness")
        batch = places.setdefault(operation.witness.seq, {})
        if operation.witness.index is not None:
            first = batch.setdefault(operation.witness.index, operation)
            if first is not operation:
                return Counterexample(_SAME_PLACE, (first, operation))
    exact: dict[Witness, int] = {}
    batches: dict[int, tuple[int, int]] = {}
    rank = 0
    for seq, batch in sorted(places.items()):
        exact |= {Witness(seq, index): rank + at for at, index in enumerate(sorted(batch), start=1)}
        last = rank + max(1, len(batch))
        batches[seq] = (rank + 1, last)
        rank = last
    ranks: list[_Place | None] = []
    for operation in operations:
        witness = operation.witness
        if operation.returned_ns is None or witness is None:
            ranks.append(None)
        elif witness.index is None:
            ranks.append(batches[witness.seq])
        else:
            ranks.append((exact[witness], exact[witness]))
    return ranks


def _in_real_time(operations: Sequence[Operation], ranks: Sequence[_Place | None]) -> _Timing | Counterexample:
    """Check that what returned earlier has the lower rank; fill in from which rank on the others may take effect."""
    returned = sorted(
        (operation.returned_ns, rank[1], at)
        for at, (operation, rank) in enumerate(zip(operations, ranks, strict=True))
        if operation.returned_ns is not None and rank is not None
    )
    highest: list[tuple[int, int]] = []  # (rank, operation) among those that returned up to here
    for _, rank, at in returned:
        highest.append(max(highest[-1], (rank, at)) if highest else (rank, at))
    times = [time for time, _, _ in returned]
    spans: list[_Span] = []
    bounds: dict[int, int] = {}
    for at, (operation, place) in enumerate(zip(operations, ranks, strict=True)):
        before = bisect_left(times, operation.invoked_ns)
        past, latest = highest[before - 1] if before else (0, at)
        if place is None:
            spans.append((past + 1, None))
            bounds[at] = latest
        elif place[0] <= past:
            return Counterexample(_AGAINST_TIME, (operations[latest], operation))
        else:
            spans.append(place)
    return spans, bounds


# --- each key's part --------------------------------------------------------------------------------------------------


def _check_results(
    operations: Sequence[Operation],
    timing: _Timing,
    initial: Mapping[bytes, bytes],
    budget: int,
    reason: str,
) -> Verdict:
    spans, bounds = timing
    for operation in operations:
        if isinstance(operation.action, Range) and not _is_well_formed(operation.action, operation.result):
            return Verdict(Judgement.NOT_LINEARIZABLE, counterexample=Counterexample(_BAD_LISTING, (operation,)))
    explored = 0
    undecided = False
    for key, (first, steps) in _registers(operations, spans, initial).items():
        found = search(steps, first, budget=budget)
        explored += found.explored
        if found.possible is False:
            sources = {step.source for step in shrink(steps, first, budget=_SHRINK_BUDGET)}
            sources |= {bounds[source] for source in sources if source in bounds}
            guilty = Counterexample(reason, tuple(operations[source] for source in sorted(sources)), key)
            return Verdict(Judgement.NOT_LINEARIZABLE, explored, guilty)
        undecided = undecided or found.possible is None
    return Verdict(Judgement.NO_VERDICT if undecided else Judgement.LINEARIZABLE, explored)


def _registers(
    operations: Sequence[Operation], spans: Sequence[_Span], initial: Mapping[bytes, bytes]
) -> dict[bytes, tuple[int, list[Step]]]:
    """For each key its value in the beginning and its steps."""
    numbers: dict[bytes | None, int] = {None: ABSENT}

    def number(value: bytes | None) -> int:
        return numbers.setdefault(value, len(numbers))

    registers: dict[bytes, tuple[int, list[Step]]] = {key: (number(value), []) for key, value in initial.items()}
    for operation in operations:
        for key in _keys(operation):
            registers.setdefault(key, (ABSENT, []))
    for source, (operation, (start, end)) in enumerate(zip(operations, spans, strict=True)):
        if isinstance(operation.action, Range):
            for key, value in _seen(operation.action, operation, registers):
                registers[key][1].append(Step(start, end, number(value), KEEP, source))
            continue
        if operation.returned_ns is None:
            meaning = _possible_meaning(operation.action, number)
        else:
            meaning = _meaning(operation.action, operation.result, number)
        if meaning is not None:
            registers[operation.action.key][1].append(Step(start, end, *meaning, source))
    return registers


def _keys(operation: Operation) -> Iterable[bytes]:
    if not isinstance(operation.action, Range):
        return (operation.action.key,)
    return [key for key, _ in operation.result.items] if isinstance(operation.result, Listing) else ()


def _seen(action: Range, operation: Operation, keys: Iterable[bytes]) -> Iterable[tuple[bytes, bytes | None]]:
    """What a range says about each of the keys that it covers."""
    if operation.returned_ns is None:
        return
    listing = operation.result
    if not isinstance(listing, Listing):
        raise TypeError(f"{listing!r} is no result of {action}")
    held = dict(listing.items)
    last = listing.items[-1][0] if listing.items else action.start
    for key in keys:
        if action.covers(key) and (key <= last or not listing.more):
            yield key, held.get(key)


def _meaning(action: Put | Get | Delete | Cas, result: Observed, number: Callable[[bytes | None], int]) -> _Meaning:
    """What an operation with this result required and wrote."""
    match action, result:
        case Put(value=value), None:
            return ANYTHING, number(value)
        case Get(), bytes() | None:
            return number(result), KEEP
        case Delete(), bool():
            return (PRESENT, ABSENT) if result else (ABSENT, KEEP)
        case Cas(expected=expected, new=new), Swap(swapped, previous):
            if swapped != (previous == expected):
                return IMPOSSIBLE, KEEP
            return number(previous), number(new) if swapped and new != expected else KEEP
    raise TypeError(f"{result!r} is no result of {action}")


def _possible_meaning(action: Put | Get | Delete | Cas, number: Callable[[bytes | None], int]) -> _Meaning | None:
    """What an operation with unknown outcome does if it takes effect; None if it changes nothing."""
    match action:
        case Put(value=value):
            return ANYTHING, number(value)
        case Delete():
            return PRESENT, ABSENT
        case Cas(expected=expected, new=new) if new != expected:
            return number(expected), number(new)
    return None


def _is_well_formed(action: Range, result: Observed) -> bool:
    keys = [key for key, _ in result.items] if isinstance(result, Listing) else []
    return all(map(action.covers, keys)) and all(first < second for first, second in pairwise(keys))


# --- for people -------------------------------------------------------------------------------------------------------


def _line(operation: Operation, origin_ns: int) -> str:
    invoked = f"{(operation.invoked_ns - origin_ns) / 1e6:.3f}"
    if operation.returned_ns is None:
        return f"  {operation.client}: {operation.action} => unknown [{invoked} ms .. ]"
    returned = f"{(operation.returned_ns - origin_ns) / 1e6:.3f}"
    place = ""
    if operation.witness is not None:
        place = f" {operation.witness}"
    return f"  {operation.client}: {operation.action} => {_told(operation)} [{invoked} .. {returned} ms]{place}"


def _told(operation: Operation) -> str:
    result = operation.result
    match operation.action, result:
        case Put(), _:
            return "done"
        case Delete(), bool(deleted):
            return "deleted" if deleted else "nothing to delete"
        case Cas(), Swap(swapped, previous):
            return f"{'swapped' if swapped else 'refused'}, found {previous!r}"
        case Range(), Listing(items, more):
            listed = ", ".join(f"{key!r}: {value!r}" for key, value in items)
            return f"{{{listed}{', ...' if more else ''}}}"
    return repr(result)
