"""What a replica must remember: the log of what it said and accepted, snapshots of the state, and their recovery."""
