"""Is there an order in which one register explains what everybody saw?  Wing & Gong's search, in Lowe's form.

Lowe's just-in-time linearization: walk through the returns in order of time, and let operations take effect only when
the next one to return has not yet done so.  A configuration is (position among the returns, bit set of the pending
operations that took effect, bit set of those without outcome that did, value); none is explored twice.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

# Values are numbers from 0; negative ones are requirements and effects that are no value.
ABSENT: Final = 0
ANYTHING: Final = -1
PRESENT: Final = -2
IMPOSSIBLE: Final = -3
KEEP: Final = -1


@dataclass(frozen=True, slots=True)
class Step:
    """What an operation asks of a register and does to it: every result of the key-value service says both.

    `end` None is an unknown outcome.  A step with KEEP requires one value (or IMPOSSIBLE) and has an end.
    """

    start: int
    end: int | None  # a step ends before another starts iff end < start
    requires: int  # a value, ANYTHING, PRESENT or IMPOSSIBLE
    writes: int  # a value or KEEP
    source: int  # of the caller: which operation it is


@dataclass(frozen=True, slots=True)
class Search:
    """`possible` is None when the budget ended the search."""

    possible: bool | None
    explored: int  # configurations


# position, pending steps that took effect, open ones that did, value, whether an open one did last
_Configuration = tuple[int, int, int, int, bool]


def search(steps: Iterable[Step], initial: int, *, budget: int) -> Search:
    """Whether the steps have an order that respects their times, each finding what it requires.

    Explores at most `budget` configurations.
    """
    timeline = _Timeline(list(steps), initial)
    stack: list[_Configuration] = [(0, 0, 0, initial, False)]
    seen: set[_Configuration] = set()
    while stack:
        configuration = timeline.settled(stack.pop())
        if configuration[0] == timeline.length:
            return Search(possible=True, explored=len(seen))
        if configuration in seen:
            continue
        if len(seen) >= budget:
            return Search(possible=None, explored=len(seen))
        seen.add(configuration)
        stack += reversed(timeline.successors(configuration))
    return Search(possible=False, explored=len(seen))


class _Timeline:
    """Steps with an end by their order of ending ("position"), and those without, the open ones."""

    def __init__(self, steps: Sequence[Step], initial: int) -> None:
        closed = sorted(((s.end, s) for s in steps if s.end is not None), key=lambda pair: pair[0])
        self._open = sorted((s for s in steps if s.end is None), key=lambda step: step.start)
        self.length = len(closed)
        self._requires = [step.requires for _, step in closed]
        self._writes = [step.writes for _, step in closed]
        starts = [step.start for step in self._open]
        self._open_count = [bisect_right(starts, end) for end, _ in closed]  # that have started by each end
        self._open_requires = {step.requires for step in self._open}
        self._readers: dict[int, list[int]] = {}  # of each requirement, by end
        for position, required in enumerate(self._requires):
            self._readers.setdefault(required, []).append(position)
        writers = Counter([initial, *(step.writes for step in steps)])
        self._written_once = {value for value, count in writers.items() if count == 1}
        self._unread = [
            required == ANYTHING
            and not {written, PRESENT} & self._readers.keys()
            and written not in self._open_requires
            for required, written in zip(self._requires, self._writes, strict=True)
        ]
        # Bits of ended steps are given out again, so that a bit set is as long as the history is concurrent.
        self._bits = [0] * self.length
        self._pending: list[tuple[int, ...]] = []
        by_start = sorted(range(self.length), key=lambda at: closed[at][1].start)
        free: list[int] = []
        pending: list[int] = []
        started = 0
        for position, (end, _) in enumerate(closed):
            while started < self.length and closed[by_start[started]][1].start <= end:
                at = by_start[started]
                self._bits[at] = free.pop() if free else 1 << len(pending)
                insort(pending, at)
                started += 1
            self._pending.append(tuple(pending))
            pending.remove(position)
            free.append(self._bits[position])

    def settled(self, configuration: _Configuration) -> _Configuration:
        """Pass the ends of what took effect; let reads of the present value take effect at once.

        Safe without alternatives: a read changes nothing, so an order in which it comes later also has it here.
        """
        position, done, used, value, hungry = configuration
        bits, requires, writes = self._bits, self._requires, self._writes
        while position < self.length:
            if done & bits[position]:
                done ^= bits[position]
                position += 1
                continue
            for at in self._pending[position]:
                if requires[at] == value and writes[at] == KEEP and not done & bits[at]:
                    done |= bits[at]
                    hungry = False
                    break
            else:
                break
        return position, done, used, value, hungry

    def successors(self, configuration: _Configuration) -> list[_Configuration]:
        """What may take effect next: steps in order of their ends, then open ones.

        Leaves out what leads nowhere or nowhere else.  Pending writes that nobody reads take effect unseen just before
        any other write.  A value that is not written again is not overwritten while somebody has yet to read it.  An
        open step is of use only if what comes next depends on what it wrote; until then a configuration is `hungry`.
        """
        position, done, used, value, hungry = configuration
        found: list[_Configuration] = []
        waiting = [at for at in self._pending[position] if not done & self._bits[at]]
        unread = done
        for at in waiting:
            if self._unread[at]:
                unread |= self._bits[at]
        final = self._readers_left(value, position, waiting)
        for at in waiting:
            required, bit = self._requires[at], self._bits[at]
            if final - {at} and self._writes[at] != value:
                continue
            if required == ANYTHING and not hungry:
                found.append((position, unread | bit, used, self._writes[at], False))
            elif required == value or (required == PRESENT and value != ABSENT):
                found.append((position, done | bit, used, self._writes[at], False))
        if final:
            return found
        wanted = {self._requires[at] for at in waiting}
        tried: set[tuple[int, int]] = set()  # equal open steps are as good as each other: none has a deadline
        for index, step in enumerate(self._open[: self._open_count[position]]):
            required, written = step.requires, step.writes
            if used >> index & 1 or written == value or (required, written) in tried:
                continue
            if not (required == value or (not hungry and _accepts(required, value))):
                continue
            if written in wanted or written in self._open_requires or (PRESENT in wanted and written != ABSENT):
                tried.add((required, written))
                hidden = unread if required == ANYTHING else done
                found.append((position, hidden, used | 1 << index, written, True))
        return found

    def _readers_left(self, value: int, position: int, waiting: Sequence[int]) -> set[int]:
        """Who has yet to find `value` if nothing writes it again: all that are waiting, or one that starts later."""
        left: set[int] = set()
        if value in self._written_once:
            for at in reversed(self._readers.get(value, ())):
                if at < position:
                    break
                if at not in self._pending[position]:
                    return {at}
                if at in waiting:
                    left.add(at)
        return left


def _accepts(required: int, value: int) -> bool:
    return required == ANYTHING or (required == PRESENT and value != ABSENT)


def shrink(steps: Sequence[Step], initial: int, *, budget: int) -> list[Step]:
    """Fewer of the steps that still have no order, given that all of them have none.

    Removes only what leaves an order of the others valid if there was one: reads, and writes of what nobody else
    depends on.  What is left is therefore wrong for the same reason as the whole.  Returns what it has when `budget`
    configurations were explored.
    """
    kept = list(steps)
    size = max(1, len(kept) // 2)
    while True:
        removed = False
        start = 0
        while start < len(kept) and budget > 0:
            rest = _without(kept, range(start, min(start + size, len(kept))))
            if len(rest) < len(kept):
                attempt = search(rest, initial, budget=budget)
                budget -= attempt.explored + 1
                if attempt.possible is False:
                    kept, removed = rest, True
                    continue
            start += size
        if budget <= 0 or (size == 1 and not removed):
            return kept
        size = max(1, size // 2)


def _without(steps: Sequence[Step], chunk: range) -> list[Step]:
    """The steps without as many of the chunk as may be removed together."""
    leaving = set(chunk)
    while True:
        observed = {
            step.requires
            for at, step in enumerate(steps)
            if at not in leaving and (step.end is not None or step.requires != PRESENT)
        }
        needed = {
            at
            for at in leaving
            if steps[at].writes != KEEP
            and (steps[at].writes in observed or (PRESENT in observed and steps[at].writes != ABSENT))
        }
        if not needed:
            return [step for at, step in enumerate(steps) if at not in leaving]
        leaving -= needed
