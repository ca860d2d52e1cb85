"""The deterministic simulator, its fault models and checkers, and the Byzantine behaviours.  No product module needs it."""
