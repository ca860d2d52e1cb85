"""A backup is read from replicas of which some lie, are gone, or answer nothing."""

import pytest

from bft.client.identity import load_identity
from bft.client.state_reader import StateReader
from bft.errors import NoQuorum
from bft.statemachine.kv import encode_put
from bft.storage.backup import open_certificate
from crypto.ca import CertificateAuthority
from crypto.keys import PrivateKey
from tests.integration.harness import RawClient, make_cluster, running_cluster
from tests.integration.test_node import until


def administrator(directory):
    key, home = PrivateKey.generate(), directory / "clients" / "root"
    home.mkdir()
    (home / "client.crt").write_bytes(CertificateAuthority.load(directory / "ca").issue_admin("root", key.public))
    key.save(home / "client.key")
    return home


async def filled(tmp_path, cluster, nodes):
    async with RawClient(tmp_path, cluster) as client:
        await client.register()
        for number in range(40):
            await client.call(encode_put(b"k%d" % number, b"v"))
    await until(lambda: {node.core.stable.seq for node in nodes} == {40})


def reader(tmp_path, cluster, said):
    who = load_identity(administrator(tmp_path), cluster)
    return StateReader(cluster, who, open_certificate, lambda *told: said.append(told))


async def test_sources_that_lie_or_are_silent_are_left_and_what_they_sent_truly_is_kept(tmp_path, monkeypatch):
    cluster = make_cluster(tmp_path, checkpoint_interval=4, window=8, transfer_nodes_max=4)
    async with running_cluster(tmp_path) as nodes:
        await filled(tmp_path, cluster, nodes)
        served = nodes[0]._state.read_nodes
        calls = []

        def lie(seq, paths, bytes_max):
            calls.append(seq)
            true = served(seq, paths, bytes_max) or []
            return true if len(calls) < 3 else [(path, node + b"x") for path, node in true]

        monkeypatch.setattr(nodes[0]._state, "read_nodes", lie)
        monkeypatch.setattr(nodes[1]._state, "read_nodes", lambda *_: None)
        said: list[tuple[int, ...]] = []
        certificate, state = await reader(tmp_path, cluster, said).read()
        assert open_certificate(certificate, cluster).seq == 40
        assert state.root == nodes[2].core.stable.root
        assert {told[0] for told in said} == {0, 2}
        assert max(told[1] for told in said if told[0] == 0) < min(told[1] for told in said if told[0] == 2)


async def test_when_no_replica_helps_each_ones_reason_is_told(tmp_path, monkeypatch):
    cluster = make_cluster(tmp_path, checkpoint_interval=4, window=8)
    async with running_cluster(tmp_path):
        with pytest.raises(NoQuorum, match=r"replica 0: has no stable checkpoint yet; replica 1"):
            await reader(tmp_path, cluster, []).read()


async def test_only_an_administrator_is_served(tmp_path):
    cluster = make_cluster(tmp_path, checkpoint_interval=4, window=8)
    async with running_cluster(tmp_path) as nodes:
        await filled(tmp_path, cluster, nodes)
        who = load_identity(tmp_path / "clients" / "test", cluster)
        with pytest.raises(NoQuorum, match="closed the connection"):
            await StateReader(cluster, who, open_certificate, lambda *_: None).read()
        assert nodes[0].gate.invalid["FETCH_STATE"] > 0
