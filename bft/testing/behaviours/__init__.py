"""Byzantine behaviours, by what they attack; `bft.testing.byzantine` finds them by name."""
