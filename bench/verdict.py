"""Whether a run was safe; without that no figure of it is worth anything."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from bench.shared import judge
from bft.testing.history import Get, Operation, Put


@dataclass(frozen=True, slots=True)
class Check:
    """One claim about the run."""

    claim: str
    holds: bool
    found: str  # in words: what was compared, or what is wrong


@dataclass(frozen=True, slots=True)
class Verdict:
    """Safe if every claim was checked and holds."""

    checks: tuple[Check, ...]

    @property
    def safe(self) -> bool:
        return bool(self.checks) and all(check.holds for check in self.checks)

    def document(self) -> dict[str, Any]:
        return {
            "safe": self.safe,
            "checks": [{"claim": c.claim, "holds": c.holds, "found": c.found} for c in self.checks],
        }

    @classmethod
    def of(cls, seen: "Seen") -> Self:
        """A pure function of what was seen; of a system that is not ours, what its answers tell."""
        answers = (_acknowledged(seen), _answers(seen), _linearizable(seen))
        if seen.statuses is None:
            return cls(answers)
        return cls((*answers, _once(seen), _roots(seen, seen.statuses), _accused(seen, seen.statuses)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a run left behind."""

    acknowledged: int  # operations
    failed: int  # operations whose outcome is not known
    violations: Sequence[str]  # answers that contradict the history, seen while the load ran
    shared: Sequence[Operation] = ()  # what was asked of keys that all callers write
    keys: int  # that were read back
    wrong: Sequence[str] | None  # final values that contradict it; None: they could not be read
    faulty: Collection[int]  # replicas that were told to misbehave
    down: Collection[int] = ()  # replicas that crashed and were not started again
    statuses: Mapping[int, Mapping[str, Any] | None] | None  # of every replica, after the load; None: it has none
    executed: (
        int | None
    )  # operations, by the correct replica that executed most of them itself; None: others had a part


def _acknowledged(seen: Seen) -> Check:
    claim = "no acknowledged write is lost"
    if seen.wrong is None:
        return Check(claim, holds=False, found="the keys could not be read back")
    if seen.wrong:
        return Check(claim, holds=False, found=_some(seen.wrong))
    if not seen.keys:
        return Check(claim, holds=True, found="no key of a single writer in this run")
    return Check(claim, holds=True, found=f"{seen.keys} keys read back: each holds its writer's last write")


def _answers(seen: Seen) -> Check:
    claim = "every answer fits the history"
    if seen.violations:
        return Check(claim, holds=False, found=_some(seen.violations))
    return Check(
        claim, holds=True, found=f"{seen.acknowledged} answers: reads give the last write, revisions only grow"
    )


def _linearizable(seen: Seen) -> Check:
    claim = "the history of the shared keys is linearizable"
    if not seen.shared:
        return Check(claim, holds=True, found="no shared keys in this run")
    found = judge(seen.shared)
    if not found:
        return Check(claim, holds=False, found=str(found))
    keys = len({operation.action.key for operation in seen.shared if isinstance(operation.action, Get | Put)})
    text = f"{len(seen.shared)} reads and writes that competed for {keys} keys"
    return Check(claim, holds=True, found=text)


def _once(seen: Seen) -> Check:
    claim = "every operation executed once"
    if seen.executed is None:
        return Check(claim, holds=True, found="not counted: no replica of its own ran through it all")
    most = seen.acknowledged + seen.failed
    text = f"{seen.acknowledged} acknowledged, {seen.failed} of unknown outcome, {seen.executed} executed"
    return Check(claim, holds=seen.acknowledged <= seen.executed <= most, found=text)


def _roots(seen: Seen, statuses: Mapping[int, Mapping[str, Any] | None]) -> Check:
    claim = "state roots are equal"
    correct = {replica: status for replica, status in statuses.items() if replica not in {*seen.faulty, *seen.down}}
    if silent := [replica for replica, status in correct.items() if status is None]:
        return Check(claim, holds=False, found=f"correct replicas did not answer: {_list(silent)}")
    stands = {(status["last_executed"], status["state_root"]) for status in correct.values() if status is not None}
    if len(stands) != 1:
        text = "; ".join(
            f"replica {i}: {s['state_root'][:12]} at {s['last_executed']}" for i, s in correct.items() if s
        )
        return Check(claim, holds=False, found=text or "there is no correct replica")
    ((seq, root),) = stands
    return Check(claim, holds=True, found=f"{root[:12]} at sequence number {seq} on replicas {_list(correct)}")


def _accused(seen: Seen, statuses: Mapping[int, Mapping[str, Any] | None]) -> Check:
    claim = "no correct replica is accused"
    correct = [s for replica, s in statuses.items() if s is not None and replica not in seen.faulty]
    accused = {proof["accused"] for status in correct for proof in status["evidence"]}
    if wrongly := sorted(accused - set(seen.faulty)):
        return Check(claim, holds=False, found=f"evidence against {_list(wrongly)}")
    text = f"evidence against replica {_list(sorted(accused))}, which misbehaves" if accused else "no evidence at all"
    return Check(claim, holds=True, found=text)


def _some(texts: Sequence[str], shown: int = 3) -> str:
    more = len(texts) - shown
    return "; ".join(texts[:shown]) + (f"; and {more} more" if more > 0 else "")


def _list(replicas: Collection[int]) -> str:
    return ", ".join(map(str, replicas))
