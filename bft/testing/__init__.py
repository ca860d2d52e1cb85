"""The deterministic simulator, its faults and checkers, and the Byzantine behaviours.  Products do without it.

For who writes a service of her own: `check_determinism`.
"""

from bft.testing.determinism import NotDeterministic, check_determinism

__all__ = ["NotDeterministic", "check_determinism"]
