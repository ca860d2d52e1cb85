"""The verifier pool gives the same verdicts inline and in threads."""

import os
import threading

import pytest

from crypto import pool as pool_module
from crypto.keys import PrivateKey, verify
from crypto.pool import WORTHWHILE, VerifierPool, default_threads

KEY = PrivateKey.from_seed(b"\x09" * 32)


def batch(count: int, *, bad: int | None = None) -> list[tuple[bytes, bytes, bytes]]:
    items = []
    for i in range(count):
        data = b"item %d" % i
        items.append((KEY.public.raw, data + b"!" if i == bad else data, KEY.sign(data)))
    return items


@pytest.fixture(params=[0, 1, 3])
def pool(request):
    pool = VerifierPool(request.param)
    yield pool
    pool.close()


@pytest.mark.parametrize("count", [0, 1, WORTHWHILE - 1, WORTHWHILE, WORTHWHILE + 1, 25])
async def test_a_batch_of_valid_signatures_passes(pool, count):
    assert await pool.verify_all_async(batch(count))
    assert pool.verify_all(batch(count))


@pytest.mark.parametrize("count", [1, WORTHWHILE, 25])
async def test_one_bad_signature_anywhere_fails_the_batch(pool, count):
    for bad in range(count):
        assert not await pool.verify_all_async(batch(count, bad=bad))
        assert not pool.verify_all(batch(count, bad=bad))


async def test_a_malformed_item_fails_the_batch_and_raises_nothing(pool):
    assert not await pool.verify_all_async([*batch(WORTHWHILE), (b"", b"", b"")])


@pytest.fixture
def threads_used(monkeypatch):
    used = set()

    def recording(public_raw, data, signature):
        used.add(threading.current_thread())
        return verify(public_raw, data, signature)

    monkeypatch.setattr(pool_module, "verify", recording)
    return used


async def test_a_batch_worth_it_leaves_the_event_loops_thread(threads_used):
    pool = VerifierPool(2)
    await pool.verify_all_async(batch(20))
    pool.close()
    assert threading.current_thread() not in threads_used


@pytest.mark.parametrize(("threads", "count"), [(0, 20), (2, WORTHWHILE - 1)])
async def test_without_threads_or_for_few_items_it_runs_inline(threads_used, threads, count):
    pool = VerifierPool(threads)
    await pool.verify_all_async(batch(count))
    pool.close()
    assert threads_used == {threading.current_thread()}


async def test_a_closed_pool_goes_on_inline():
    pool = VerifierPool(2)
    pool.close()
    pool.close()
    assert await pool.verify_all_async(batch(20))


def test_a_negative_number_of_threads_is_refused():
    with pytest.raises(ValueError, match="negative"):
        VerifierPool(-1)


@pytest.mark.parametrize(("cores", "threads"), [({0}, 0), ({1, 3}, 1), (set(range(8)), 7)])
def test_one_usable_core_is_left_to_the_event_loop(monkeypatch, cores, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    assert default_threads() == threads
