"""A state transfer goes on where the process before this one ended, whatever became of the file."""

from pathlib import Path

import pytest

from bft.statemachine.kv import KeyValue
from bft.statemachine.replicated import ReplicatedState
from bft.storage import fetched
from bft.storage.fetched import FetchedNodes

NODES = 40  # fetched before the restart


def state_of(*numbers: int, value: bytes = b"v") -> ReplicatedState:
    state = ReplicatedState(KeyValue())
    for number in numbers:
        state.put_system(b"k%d" % number, value)
    return state


SOURCE = state_of(*range(200))
ROOT = SOURCE.checkpoint(8)
NEWER = state_of(*range(200))
NEWER.put_system(b"k7", b"changed")
NEWER_ROOT = NEWER.checkpoint(16)


def fetch(state: ReplicatedState, source: ReplicatedState, seq: int, limit: int) -> int:
    """Up to so many nodes; how many there were."""
    count = 0
    while count < limit and (paths := state.missing_nodes(1)):
        for path, encoding in source.read_nodes(seq, paths, 1 << 20) or []:
            assert state.accept_node(path, encoding)
            count += 1
    return count


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A directory in which a transfer was interrupted after some nodes."""
    state = state_of()
    kept = FetchedNodes(tmp_path)
    assert state.keep_fetched(kept) == 0
    state.begin_sync(8, ROOT)
    assert fetch(state, SOURCE, 8, NODES) == NODES
    kept.close()
    return tmp_path


def nodes_of(source: ReplicatedState, seq: int, root: bytes) -> int:
    state = state_of()
    state.begin_sync(seq, root)
    return fetch(state, source, seq, 10_000)


def test_a_restart_goes_on_with_what_was_fetched(interrupted: Path) -> None:
    state = state_of()
    assert state.keep_fetched(FetchedNodes(interrupted)) == NODES
    state.begin_sync(8, ROOT)
    again = fetch(state, SOURCE, 8, 10_000)
    assert again <= nodes_of(SOURCE, 8, ROOT) - NODES + 4  # inner nodes of which something was missing come twice
    state.finish_sync()
    assert state.root_at(8) == ROOT
    assert not (interrupted / fetched.FETCHED).exists()


def test_it_goes_on_towards_a_newer_checkpoint_and_after_a_second_restart(interrupted: Path) -> None:
    state, kept = state_of(), FetchedNodes(interrupted)
    state.keep_fetched(kept)
    state.begin_sync(16, NEWER_ROOT)
    fetch(state, NEWER, 16, NODES)
    kept.close()
    state = state_of()
    assert state.keep_fetched(FetchedNodes(interrupted)) == 2 * NODES
    state.begin_sync(16, NEWER_ROOT)
    assert fetch(state, NEWER, 16, 10_000) < nodes_of(NEWER, 16, NEWER_ROOT) - 2 * NODES + 10
    state.finish_sync()
    assert state.root_at(16) == NEWER_ROOT


def test_nothing_that_the_file_says_is_believed(interrupted: Path) -> None:
    """A bit that flips costs nodes, never the result; a file that is cut off is gone on with where it ends."""
    file = interrupted / fetched.FETCHED
    whole = file.read_bytes()
    for position in range(0, len(whole), 41):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged[: len(whole) - position % 3])
        state, kept = state_of(), FetchedNodes(interrupted)
        assert state.keep_fetched(kept) <= NODES
        state.begin_sync(8, ROOT)
        fetch(state, SOURCE, 8, 10)
        kept.close()
        state = state_of()
        state.keep_fetched(FetchedNodes(interrupted))
        state.begin_sync(8, ROOT)
        fetch(state, SOURCE, 8, 10_000)
        state.finish_sync()
        assert state.root_at(8) == ROOT


def test_who_executes_by_itself_forgets_the_file(interrupted: Path) -> None:
    state = state_of(1)
    state.keep_fetched(FetchedNodes(interrupted))
    state.checkpoint(4)
    assert not (interrupted / fetched.FETCHED).exists()


def test_a_repair_takes_nothing_from_the_file_and_leaves_none(interrupted: Path) -> None:
    state = state_of(1)
    state.checkpoint(8)
    state.keep_fetched(FetchedNodes(interrupted))
    state.begin_repair(8, ROOT)
    assert not (interrupted / fetched.FETCHED).exists()
    assert fetch(state, SOURCE, 8, 10_000) > NODES
    assert not (interrupted / fetched.FETCHED).exists()
    state.finish_sync()
    assert state.root_at(8) == ROOT


def test_a_disk_that_fails_costs_the_file_and_not_the_transfer(tmp_path: Path) -> None:
    state = state_of()
    state.keep_fetched(FetchedNodes(tmp_path / "gone"))
    state.begin_sync(8, ROOT)
    fetch(state, SOURCE, 8, 10_000)
    state.finish_sync()
    assert state.root_at(8) == ROOT


def test_a_file_that_is_too_large_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetched, "_BYTES_MAX", 2_000)
    state = state_of()
    state.keep_fetched(FetchedNodes(tmp_path))
    state.begin_sync(8, ROOT)
    fetch(state, SOURCE, 8, 100)
    assert not (tmp_path / fetched.FETCHED).exists()
    fetch(state, SOURCE, 8, 10_000)
    state.finish_sync()
    assert state.root_at(8) == ROOT
