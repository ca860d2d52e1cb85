"""What happened in a run, as buckets that can be counted: seeds that add none are vanity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bft.core.effects import CatchingUp, Effect, EvidenceFound, Rejected, ViewChangeStarted
from bft.core.events import ClientRequest, Event, Received
from bft.core.messages import Authenticated
from bft.core.replica import Replica


class Coverage:
    """Counts buckets: what arrived, in which phase of the view, in what weather; and what is not ordinary."""

    def __init__(self) -> None:
        self._steps: Counter[tuple[str, type, str]] = Counter()
        self._happened: Counter[str] = Counter()

    def add(self, core: Replica, event: Event, effects: Iterable[Effect], weather: str) -> None:
        """One step of a correct replica."""
        kind: type = type(event)
        if isinstance(event, Received):
            message = event.message
            kind = type(message.message) if isinstance(message, Authenticated) else type(message)
        phase = "changing" if not core.active else "view 0" if not core.view else "later view"
        self._steps[phase, kind, weather] += 1
        for effect in effects:
            match effect:
                case Rejected():
                    self._happened[f"rejected {effect.message_type}: {effect.reason}"] += 1
                case ViewChangeStarted():
                    self._happened[f"view change: {effect.cause}"] += 1
                case EvidenceFound():
                    self._happened[f"convicted by two {type(effect.evidence.first.message).__name__}s"] += 1
                case CatchingUp():
                    self._happened["state transfer"] += 1
                case _:
                    pass

    def note(self, what: str) -> None:
        """Something that is no step."""
        self._happened[what] += 1

    @property
    def buckets(self) -> dict[str, int]:
        """How often each was seen, by name."""
        steps = {
            f"{'request from a client' if kind is ClientRequest else kind.__name__} in {phase}, {weather}": count
            for (phase, kind, weather), count in self._steps.items()
        }
        return {**steps, **self._happened}


def rare_last(found: Iterable[Iterable[str]]) -> tuple[int, int]:
    """Of the seeds' buckets, in the order the seeds ran: how many in all, how many only in the last tenth of them."""
    seeds = [set(buckets) for buckets in found]
    late = len(seeds) - max(1, len(seeds) // 10)
    before: set[str] = set().union(*seeds[:late])
    return len(before.union(*seeds[late:])), len(before.union(*seeds[late:])) - len(before)
