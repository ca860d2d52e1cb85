"""The benchmark: load, faults, measurement, report. Uses the public SDK and the CLI only."""
