"""Launching clusters: local processes, one host a replica, the demo. Uses the public SDK and the CLI only."""
