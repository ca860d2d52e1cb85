"""The benchmark: load, faults, measurement, a verdict on safety from the same run, and a report."""
