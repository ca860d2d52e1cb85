"""`bft evidence audit`: two histories that both look whole, and who must have signed both."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bft.auth import KeySigner
from bft.config import load_cluster, load_replica
from bft.core.effects import Committed
from bft.core.messages import Authenticated, Commit
from bft.errors import ExitCode
from bft.storage.log import FileLog
from bft.storage.logfile import Identity
from bft.storage.records import encode_record, retained
from crypto.keys import PrivateKey


def commit(cluster: Path, replica: int, digest: bytes) -> Authenticated[Commit]:
    key = PrivateKey.load(cluster / f"replica-{replica}" / "replica.key")
    return KeySigner(key, load_cluster(cluster).domain).sign(Commit(view=0, seq=1, digest=digest, replica=replica))


def write_log(cluster: Path, replica: int, commits: Sequence[Authenticated[Commit]]) -> Path:
    config = load_replica(cluster / f"replica-{replica}")
    identity = Identity(config.cluster.cluster, replica)

    async def write() -> None:
        log, _ = FileLog.open(config.data, identity, retained, sync=False)
        await log.append([encode_record(Committed(tuple(commits)))])
        await log.close()

    asyncio.run(write())
    return cluster / f"replica-{replica}"


def forked(cluster: Path) -> list[Path]:
    """Replica 2 saw 0, 1 and 2 commit one batch, replica 3 saw 0, 1 and 3 commit another."""
    return [
        write_log(cluster, 2, [commit(cluster, replica, b"a" * 32) for replica in (0, 1, 2)]),
        write_log(cluster, 3, [commit(cluster, replica, b"b" * 32) for replica in (0, 1, 3)]),
    ]


def test_who_committed_two_batches_at_one_number_is_named_and_nobody_else(bft, cluster):
    found = json.loads(bft("evidence", "audit", *forked(cluster), "--json").out)
    assert [row["accused"] for row in found] == [0, 1]


def test_each_proof_that_is_saved_verifies_by_itself(bft, cluster, tmp_path):
    bft("evidence", "audit", *forked(cluster), "--save", tmp_path / "proofs")
    for accused in (0, 1):
        proof = tmp_path / "proofs" / f"replica-{accused}.evidence"
        assert bft("evidence", "verify", proof, "--cluster", cluster).code == ExitCode.OK


def test_one_history_alone_accuses_nobody(bft, cluster):
    outcome = bft("evidence", "audit", forked(cluster)[0])
    assert outcome.code == ExitCode.OK
    assert "nobody" in outcome.out


def test_a_statement_that_the_owner_of_a_log_made_up_accuses_nobody_and_hides_nobody(bft, cluster):
    made_up = [replace(commit(cluster, replica, b"c" * 32), signature=bytes(64)) for replica in (0, 1, 2)]
    liar = write_log(cluster, 1, made_up)
    found = json.loads(bft("evidence", "audit", liar, *forked(cluster), "--json").out)
    assert [row["accused"] for row in found] == [0, 1]


def test_an_audit_changes_nothing_and_needs_no_replica(bft, cluster):
    directories = forked(cluster)
    before = [path.read_bytes() for directory in directories for path in sorted((directory / "data").iterdir())]
    bft("evidence", "audit", *directories)
    after = [path.read_bytes() for directory in directories for path in sorted((directory / "data").iterdir())]
    assert before == after
