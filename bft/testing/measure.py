"""What one lying replica costs: the same run with and without it, in virtual time, so that the answer never varies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from bft.testing.behaviours.catalogue import CATALOGUE, Entry, Role
from bft.testing.options import Options
from bft.testing.scheduler import MS, SECOND
from bft.testing.simulation import Run, simulate

SIZES = (4, 7)  # the documentation shows the first


@dataclass(frozen=True, slots=True)
class Cost:
    """What happened with the liar."""

    run: Run
    liar: int
    goodput: float  # results a virtual second, relative to the run without it

    @property
    def cells(self) -> tuple[str, str]:
        """View at the end and goodput, as the documentation shows them."""
        return str(self.run.view), f"{self.goodput:.0%}"


def measure(entry: Entry, n: int) -> Cost:
    """Raises `Violation` when safety or progress is lost."""
    scene, liar = _scene(entry.role, n)
    run = simulate(replace(scene, byzantine=((liar, entry.name),)))
    return Cost(run, liar, _undisturbed(entry.role, n) / run.done_ns)


@cache
def _undisturbed(role: Role, n: int) -> int:
    return simulate(_scene(role, n)[0]).done_ns


def _scene(role: Role, n: int) -> tuple[Options, int]:
    """Three clients with four requests under way each, on a network of 20 ms, and where the liar sits.

    Who lies about new views leads the second one: the first primary is cut off for a while.  Whom laggards ask needs
    some: one replica is cut off until the others have forgotten what it lacks.
    """
    base = Options(
        seed=1,
        n=n,
        clients=3,
        requests=80,
        operations=1,
        think_ns=5 * MS,
        delay_ns=20 * MS,
        checkpoint_interval=8,
        window=16,
        fault_phase_ns=1 * SECOND,
    )
    match role:
        case Role.PRIMARY:
            return base, 0
        case Role.NEW_PRIMARY:
            return replace(base, cut_off=((0, 1 * SECOND, 4 * SECOND),), fault_phase_ns=5 * SECOND), 1
        case Role.SOURCE:
            return replace(base, cut_off=((1, 1 * SECOND, 5 * SECOND),), fault_phase_ns=6 * SECOND), n - 1
        case Role.BACKUP:
            return base, n - 1


def document() -> str:
    """The table of docs/behaviours.md, measured anew."""
    lines = []
    for entry in CATALOGUE:
        view, goodput = measure(entry, SIZES[0]).cells
        lines.append(f"| `{entry.usage}` | {entry.role} | {entry.does} | {entry.must} | {view} | {goodput} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(document())  # noqa: T201 - the output is for the document
