"""The SDK over real TLS, against replicas that lie, keep silent, garble, are somebody else, or are not there."""

import asyncio

import pytest

import bft
from bft.client import ClientSettings
from bft.errors import ConfigurationError, EnvironmentFailure
from crypto import tls
from crypto.ca import CertificateAuthority
from crypto.keys import PrivateKey
from tests.integration.fake_replicas import (
    SESSION,
    FakeReplicas,
    garbling,
    honest,
    lying,
    refusing,
    session_denying,
    silent,
    until,
)
from tests.integration.harness import make_cluster
from tests.integration.rude_server import rude_server


@pytest.fixture
def cluster(tmp_path):
    return make_cluster(tmp_path)


def client_of(directory, *, timeout: float = 30, **settings) -> bft.Client:
    return bft.connect(directory, identity="test", timeout=timeout, settings=ClientSettings(**settings))


def only_this_task_is_left() -> bool:
    return asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("faulty", range(4))
@pytest.mark.parametrize("behaviour", [lying, silent, session_denying, garbling, refusing])
async def test_one_faulty_replica_changes_no_result(tmp_path, cluster, behaviour, faulty):
    answers = [behaviour(replica) if replica == faulty else honest(replica) for replica in range(4)]
    async with FakeReplicas(tmp_path, cluster, answers), client_of(tmp_path) as client:
        results = await asyncio.gather(*(client.call(b"%d" % i) for i in range(50)))
        assert [result.value for result in results] == [b"%d" % i for i in range(50)]
        assert client.status().session == SESSION


async def test_a_primary_that_takes_no_request_is_got_round(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        replicas.deaf = {0}
        assert (await client.call(b"a")).value == b"a"


async def test_concurrent_calls_travel_in_few_bundles_and_a_lone_one_by_itself(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        await client.call(b"lone")
        await asyncio.gather(*(client.call(b"%d" % i) for i in range(200)))
        assert [len(bundle.operations) for bundle in replicas.bundles] == [1, 200]


async def test_in_the_normal_case_the_primary_is_sent_the_request_once_and_nobody_twice(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        await until(lambda: all(replica.connected for replica in client.status().replicas))
        before = list(replicas.received)
        await client.call(b"a")
        primary, *backups = (now - then for now, then in zip(replicas.received, before, strict=True))
        assert primary == 1
        assert backups in ([0, 0, 0], [1, 1, 1])  # the latter: one of the few that all are sent, to watch the primary


@pytest.mark.parametrize("behaviour", [lying, silent, session_denying, refusing])
async def test_a_faulty_backup_is_not_waited_for(tmp_path, cluster, behaviour):
    """Nothing was sent twice: the client believed f+1 correct replicas before it lost patience with the other."""
    answers = [behaviour(replica) if replica == 3 else honest(replica) for replica in range(4)]
    async with FakeReplicas(tmp_path, cluster, answers) as replicas, client_of(tmp_path) as client:
        await until(lambda: all(replica.connected for replica in client.status().replicas))
        before = list(replicas.received)
        for number in range(20):
            await client.call(b"%d" % number)
        primary, *backups = (now - then for now, then in zip(replicas.received, before, strict=True))
        assert primary == 20
        assert len(set(backups)) == 1  # the few that all are sent at once, to watch the primary
        assert backups[0] < 20


async def test_a_replica_with_another_key_than_the_pinned_one_is_not_believed(tmp_path, cluster):
    home = tmp_path / "replica-3"
    key = PrivateKey.generate()
    for file in ("replica.key", "replica.crt"):
        (home / file).unlink()
    key.save(home / "replica.key")
    (home / "replica.crt").write_bytes(
        CertificateAuthority.load(tmp_path / "ca").issue_replica(3, key.public, ["127.0.0.1"])
    )
    async with FakeReplicas(tmp_path, cluster), client_of(tmp_path) as client:
        assert (await client.call(b"a")).value == b"a"
        await until(lambda: "pins" in client.status().replicas[3].trouble)
        assert not client.status().replicas[3].connected


async def test_a_replica_at_the_address_of_another_is_not_believed(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster, homes=(0, 1, 2, 2)), client_of(tmp_path) as client:
        await until(lambda: "replica 2" in client.status().replicas[3].trouble)
        assert not client.status().replicas[3].connected


async def test_a_client_started_before_the_replicas_waits_for_them(tmp_path, cluster):
    async def open_and_call() -> bytes:
        async with client_of(tmp_path) as client:
            return (await client.call(b"a")).value

    early = asyncio.create_task(open_and_call())
    await asyncio.sleep(0.2)
    async with FakeReplicas(tmp_path, cluster):
        assert await early == b"a"


async def test_a_client_that_reaches_nobody_says_whom_and_why(tmp_path, cluster):
    with pytest.raises(bft.NoQuorum, match=r"0 of 4 .*2 are needed.*replica 3: "):
        await client_of(tmp_path, timeout=0.3).__aenter__()
    assert only_this_task_is_left()


async def test_a_client_whose_replicas_keep_silent_gives_up_opening(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster, [silent(replica) for replica in range(4)]):
        with pytest.raises(bft.Timeout):
            await client_of(tmp_path, timeout=0.3).__aenter__()


async def test_links_that_break_are_made_again(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        await client.call(b"a")
        for links in replicas.links:
            for link in list(links):
                link.close()
        assert (await client.call(b"b")).value == b"b"


async def test_an_outage_ends_calls_as_not_executed_and_later_calls_work(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        await client.call(b"before")
        await replicas.stop()
        await until(lambda: not any(replica.connected for replica in client.status().replicas))
        with pytest.raises(bft.Timeout) as caught:
            await client.call(b"lost", timeout=0.2)
        assert not caught.value.ambiguous
        await replicas.start()
        assert (await client.call(b"after")).value == b"after"
        assert [bundle.operations for bundle in replicas.bundles] == [(b"before",), (b"after",)]


async def test_more_callers_than_allowed_wait_their_turn(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path, calls_max=3) as client:
        results = await asyncio.gather(*(client.call(b"%d" % i) for i in range(30)))
        assert [result.value for result in results] == [b"%d" % i for i in range(30)]
        assert max(len(bundle.operations) for bundle in replicas.bundles) <= 3


async def test_a_call_that_gets_no_turn_was_not_sent(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path, calls_max=1) as client:
        replicas.answers = [silent(replica) for replica in range(4)]
        first = asyncio.create_task(client.call(b"first", timeout=5))
        await asyncio.sleep(0.05)
        with pytest.raises(bft.Timeout) as caught:
            await client.call(b"second", timeout=0.1)
        assert not caught.value.ambiguous
        first.cancel()


async def test_closing_ends_calls_under_way_and_leaves_no_task(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas:
        client = client_of(tmp_path)
        async with client:
            replicas.answers = [silent(replica) for replica in range(4)]
            call = asyncio.create_task(client.call(b"a"))
            await asyncio.sleep(0.05)
        with pytest.raises(bft.ClientClosed) as caught:
            await call
        assert caught.value.ambiguous
        with pytest.raises(bft.ClientClosed):
            await client.call(b"b")
        assert only_this_task_is_left()


async def test_a_misused_call_is_refused_before_anything_is_sent(tmp_path, cluster):
    async with FakeReplicas(tmp_path, cluster) as replicas, client_of(tmp_path) as client:
        with pytest.raises(TypeError, match="bytes"):
            await client.call("text")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most"):
            await client.call(bytes(2 << 20))
        with pytest.raises(ValueError, match="timeout"):
            await client.call(b"a", timeout=0)
        assert replicas.bundles == []


def test_an_identity_that_does_not_exist_is_named(tmp_path, cluster):
    with pytest.raises(EnvironmentFailure, match=r"clients/nobody/client\.crt"):
        bft.connect(tmp_path, identity="nobody")


def test_an_identity_of_another_authority_is_refused_before_connecting(tmp_path, cluster):
    authority = CertificateAuthority.create(tmp_path / "other", cluster.cluster)
    key = PrivateKey.generate()
    home = tmp_path / "stranger"
    home.mkdir()
    key.save(home / "client.key")
    (home / "client.crt").write_bytes(authority.issue_client("stranger", key.public))
    with pytest.raises(ConfigurationError, match="not issued by this CA"):
        bft.connect(tmp_path, identity=home)


async def test_a_replica_that_resets_every_connection_after_its_handshake_does_not_end_the_client(tmp_path, cluster):
    home = tmp_path / "replica-3"
    context = tls.server_context(
        certificate=home / "replica.crt", key=home / "replica.key", ca=tmp_path / "ca" / "ca.crt"
    )
    async with FakeReplicas(tmp_path, cluster) as replicas:
        replicas.close_port(3)
        with rude_server(cluster.replicas[3].client, context) as server:
            async with client_of(tmp_path) as client:
                await until(lambda: server.connections >= 8)
                assert (await client.call(b"a")).value == b"a"
