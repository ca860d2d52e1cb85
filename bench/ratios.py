"""Whether B differs from A, told from interleaved pairs of runs: an estimate, an interval, and a plain word.

The ratio of a pair is B / A of two runs next to each other in time: what disturbs the machine disturbs both.  The
interval is a bootstrap of the mean log ratio, by percentiles that are expanded for small samples (Hesterberg 2015,
"What Teachers Should Know About the Bootstrap"): with the few pairs that one can afford, plain percentiles are too
narrow and find differences where there are none.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

PAIRS_MIN: Final = 6
_RESAMPLES: Final = 4_000
_SEED: Final = 7  # equal figures give an equal answer
_NOISY: Final = 0.15  # standard deviation of the log ratios: differences below it can hardly be seen
# Student's t for 97.5 %, by degrees of freedom; from the last on, the normal distribution is near enough.
_T: Final = {5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 11: 2.201, 14: 2.145, 19: 2.093, 29: 2.045}


@dataclass(frozen=True, slots=True)
class Ratio:
    """B in units of A."""

    estimate: float
    low: float
    high: float
    noise: float  # standard deviation of the pairs' log ratios

    @property
    def differs(self) -> bool:
        return not self.low <= 1.0 <= self.high

    @property
    def noisy(self) -> bool:
        return self.noise > _NOISY

    def __str__(self) -> str:
        change = f"{(self.estimate - 1) * 100:+.1f} % [{(self.low - 1) * 100:+.1f}, {(self.high - 1) * 100:+.1f}]"
        return change if self.differs else f"no difference ({change})"


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Of positive figures (A, B) of at least `PAIRS_MIN` pairs, with 95 % confidence.  Raises ValueError."""
    if len(pairs) < PAIRS_MIN or any(not (a > 0 and b > 0) for a, b in pairs):
        raise ValueError(f"at least {PAIRS_MIN} pairs of positive figures are needed")
    logs = [math.log(b / a) for a, b in pairs]
    chance = random.Random(_SEED)
    means = sorted(statistics.fmean(chance.choices(logs, k=len(logs))) for _ in range(_RESAMPLES))
    tail = _tail(len(logs))
    low, high = means[int(tail * _RESAMPLES)], means[_RESAMPLES - 1 - int(tail * _RESAMPLES)]
    return Ratio(math.exp(statistics.fmean(logs)), math.exp(low), math.exp(high), statistics.stdev(logs))


def _tail(count: int) -> float:
    """The share of the resampled means to leave out at each end."""
    t = next(value for freedom, value in reversed(_T.items()) if freedom <= count - 1)
    return NormalDist().cdf(-math.sqrt(count / (count - 1)) * t)
