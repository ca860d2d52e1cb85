"""The protocol core: sans-I/O PBFT (Castro & Liskov, OSDI'99), a pure function of its events."""
