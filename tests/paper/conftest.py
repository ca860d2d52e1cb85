"""Replicas to play the others to."""

import pytest

from tests.paper.stage import Stage


@pytest.fixture
def backup() -> Stage:
    """Replica 1 of four: a backup in view 0, the primary of view 1."""
    return Stage(n=4, me=1)


@pytest.fixture
def primary() -> Stage:
    """Replica 0 of four: the primary of view 0."""
    return Stage(n=4, me=0)
