"""`python -m bench.micro.state`: what the replicated state costs: a checkpoint, a transfer, memory.

One table for a checkpoint of which 1,000 keys changed, by the number of keys; one for a state that is served whole to a
laggard, both sides in this process (no network, no signatures).  docs/durability.md has the figures.
"""

import argparse
import gc
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bft.auth import KeySigner
from bft.codec import Limits
from bft.core.messages import Checkpoint, CheckpointCertificate
from bft.core.parameters import Parameters
from bft.statemachine.sync import StateSync
from bft.statemachine.trie import MerkleTrie
from bft.storage.logfile import Identity
from bft.storage.snapshot import SnapshotStore
from crypto.keys import PrivateKey
from crypto.signatures import Domain

CHANGED: Final = 1_000
VALUE_BYTES: Final = 100
ROUNDS: Final = 5
NODES: Final = 256  # in one FETCH-STATE
_SIGNER: Final = KeySigner(PrivateKey.from_seed(bytes(32)), Domain("bench", 0))


def main() -> None:
    """Measure, and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(), help="on the disk to be measured (default: here)")
    parser.add_argument("--keys", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--served-mb", type=int, default=1024, help="of state served, in values of 10 kB")
    options = parser.parse_args()
    heads = ("root CPU ms", "difference", "save CPU", "save ms", "RSS MB")
    print(f"{'keys':>10}{'all of it s':>14}{''.join(f'{head:>13}' for head in heads)}")
    for keys in options.keys:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            measure_checkpoint(Path(directory), keys)
    if options.served_mb:
        measure_serving(options.served_mb)


def measure_checkpoint(directory: Path, keys: int) -> None:
    """Of `keys` keys, change some; medians for the new root, for finding the difference, and for finding and saving it.

    Of the processor, which neighbours disturb less than the clock; of the save also by the clock.
    """
    chance = random.Random(keys)
    state = MerkleTrie().update({b"key-%d" % i: chance.randbytes(VALUE_BYTES) for i in range(keys)})
    store = SnapshotStore(directory, Identity("bench", 0), Limits.of(Parameters(n=4)))
    began = time.perf_counter()
    store.save(_certificate(1, state), lambda: state.changes_since(MerkleTrie()), since=None)
    whole_s = time.perf_counter() - began
    roots, differences, busy, saves = [], [], [], []
    for seq in range(2, 2 + ROUNDS):
        changes = {b"key-%d" % chance.randrange(keys): chance.randbytes(VALUE_BYTES) for _ in range(CHANGED)}
        before, began = state, time.process_time()
        after = before.update(changes)
        roots.append(time.process_time() - began)
        began = time.process_time()
        list(after.changes_since(before))
        differences.append(time.process_time() - began)
        certificate = _certificate(seq, after)
        began, busy_before = time.perf_counter(), time.process_time()
        store.save(certificate, lambda old=before, new=after: new.changes_since(old), since=before.root)  # type: ignore[misc]
        saves.append(time.perf_counter() - began)
        busy.append(time.process_time() - busy_before)
        state = after
    store.close()
    figures = "".join(f"{1e3 * statistics.median(times):>13.1f}" for times in (roots, differences, busy, saves))
    print(f"{keys:>10}{whole_s:>14.2f}{figures}{_rss_mb():>13}", flush=True)


def measure_serving(megabytes: int) -> None:
    """Serve a state of this size to one that has nothing: rate, and the memory of the serving side before and while."""
    gc.collect()
    size = 10_000
    chance = random.Random(1)
    state = MerkleTrie().update({b"key-%d" % i: chance.randbytes(size) for i in range(megabytes * 1_000_000 // size)})
    before, began, read, nodes = _rss_mb(), time.perf_counter(), 0, 0
    sync = StateSync(state.root, MerkleTrie())
    while paths := sync.missing(NODES):
        for path in paths:
            encoding = state.read_node(path)
            if encoding is None or not sync.accept(path, encoding):
                raise RuntimeError("a node that is there is not accepted")
            read += len(encoding)
            nodes += 1
    took = time.perf_counter() - began
    print(f"\nserved {read / 1e6:.0f} MB in {nodes} nodes in {took:.1f} s: {read / 1e6 / took:.0f} MB/s")
    print(f"RSS with the state {before} MB, with the receiver's copy in the same process {_rss_mb()} MB")


def _certificate(seq: int, state: MerkleTrie) -> CheckpointCertificate:
    return CheckpointCertificate(tuple(_SIGNER.sign(Checkpoint(seq, state.root, i)) for i in range(3)))


def _rss_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() // 1_000_000


if __name__ == "__main__":
    main()
