"""The deterministic simulator, its faults and checkers, and the Byzantine behaviours.  Products do without it."""
