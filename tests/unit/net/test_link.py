"""Links over real TLS on loopback: who is refused, what is bounded, what a garbage frame costs."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bft.codec import Hello, Limits, encode_frame
from bft.config import Address, load_replica
from bft.core.messages import FetchBatches, Status
from bft.errors import EnvironmentFailure
from bft.net.clients import ClientPort
from bft.net.inbox import Inbox
from bft.net.link import Link, LinkSettings
from bft.net.listener import Listener
from bft.net.notices import Notices
from bft.net.peers import PeerNetwork
from crypto import tls
from crypto.ca import CertificateAuthority
from crypto.certificates import Role, Subject
from crypto.keys import PrivateKey
from tests.integration.harness import add_client, free_ports, make_cluster

HELLO = encode_frame(Hello("test-0badcafe", 0, Role.CLIENT, "test"))
QUERY = b"\0\0\0\x06\x01\x31\x92\x01\xc4\x00"


@pytest.fixture
def directory(tmp_path):
    make_cluster(tmp_path)
    return tmp_path


def replica_contexts(directory: Path, replica: int) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    home = directory / f"replica-{replica}"
    files = {"certificate": home / "replica.crt", "key": home / "replica.key", "ca": directory / "ca" / "ca.crt"}
    return tls.server_context(**files), tls.client_context(**files)


def client_context(directory: Path, name: str = "test") -> ssl.SSLContext:
    home = directory / "clients" / name
    return tls.client_context(certificate=home / "client.crt", key=home / "client.key", ca=directory / "ca" / "ca.crt")


def peer_network(directory: Path, replica: int, inbox: Inbox) -> PeerNetwork:
    config = load_replica(directory / f"replica-{replica}", {})
    cluster = config.cluster
    limits = Limits.of(cluster.parameters)
    server, client = replica_contexts(directory, replica)
    subject = Subject(cluster.cluster, Role.REPLICA, str(replica))
    settings = LinkSettings(cluster.domain, subject, limits, limits.peer, waiting_bytes_max=1 << 20)
    return PeerNetwork(
        cluster,
        replica,
        listen=config.listen_peer,
        server_context=server,
        client_context=client,
        settings=settings,
        inbox=inbox,
        notices=Notices(),
    )


@asynccontextmanager
async def serving(*networks: PeerNetwork) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(network.listener.serve()) for network in networks]
    tasks += [asyncio.ensure_future(dialer.run()) for network in networks for dialer in network.dialers.values()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for network in networks:
            network.close()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def client_port(directory: Path) -> AsyncIterator[tuple[ClientPort, Inbox, Address]]:
    config = load_replica(directory / "replica-0", {})
    limits = Limits.of(config.cluster.parameters)
    inbox = Inbox(lambda: None)
    port = ClientPort(
        listen=config.listen_client,
        server_context=replica_contexts(directory, 0)[0],
        settings=LinkSettings(
            config.cluster.domain,
            Subject(config.cluster.cluster, Role.REPLICA, "0"),
            limits,
            limits.client,
            waiting_bytes_max=1 << 20,
        ),
        on_closed=lambda link: None,
        inbox=inbox,
        notices=Notices(),
    )
    address = port.listener.bind()
    task = asyncio.ensure_future(port.listener.serve())
    try:
        yield port, inbox, address
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        port.close()
        await asyncio.sleep(0.05)


async def connect(address: Address, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(address.host, address.port, ssl=context)


async def until(condition, seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (the condition is not ours to signal)
            await asyncio.sleep(0.005)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What came before the other side closed."""
    data = b""
    try:
        async with asyncio.timeout(10):
            while piece := await reader.read(1 << 16):
                data += piece
    except (ConnectionError, ssl.SSLError):
        pass
    return data


async def test_frames_reach_the_peer_in_order_and_one_write(directory):
    inbox = Inbox(lambda: None)
    sender, receiver = peer_network(directory, 0, Inbox(lambda: None)), peer_network(directory, 1, inbox)
    async with serving(sender, receiver):
        await until(lambda: sender.dialers[1].link is not None)
        for seq in range(5):
            sender.send(1, encode_frame(FetchBatches(seq)))
        sender.flush()
        await until(lambda: len(inbox) == 5)
        frames = inbox.take(from_replicas=9, from_clients=0)
        assert [frame.body for frame in frames] == [encode_frame(FetchBatches(seq))[6:] for seq in range(5)]
        assert {frame.source.replica for frame in frames} == {0}


async def test_a_link_comes_back_after_it_broke(directory):
    one, two = peer_network(directory, 0, Inbox(lambda: None)), peer_network(directory, 1, Inbox(lambda: None))
    async with serving(one, two):
        await until(lambda: one.is_connected(1))
        before = one.dialers[1].link
        two.close_link_from(0, "test")
        await until(lambda: one.dialers[1].link not in (None, before))


async def test_frames_for_a_peer_that_is_away_are_dropped_and_counted(directory):
    network = peer_network(directory, 0, Inbox(lambda: None))
    network.broadcast(encode_frame(Status(0, True, 0, 0, 1)))
    assert [network.dropped(peer) for peer in (1, 2, 3)] == [1, 1, 1]


async def test_a_replica_with_a_key_that_is_not_pinned_is_refused(directory):
    """The CA may issue a second certificate for the same replica: the pinned key decides."""
    key = PrivateKey.generate()
    home = directory / "replica-1"
    authority = CertificateAuthority.load(directory / "ca")
    (home / "replica.crt").write_bytes(authority.issue_replica(1, key.public, ["127.0.0.1"]))
    (home / "replica.key").unlink()
    key.save(home / "replica.key")
    one, two = peer_network(directory, 0, Inbox(lambda: None)), peer_network(directory, 1, Inbox(lambda: None))
    async with serving(one, two):
        await until(lambda: "pins" in one.dialers[1].trouble)
        assert not one.is_connected(1)
        assert not two.is_connected(0)


async def test_a_client_is_refused_on_the_replicas_port(directory):
    network = peer_network(directory, 0, inbox := Inbox(lambda: None))
    address = network.listener.bind()
    async with serving(network):
        reader, writer = await connect(address, client_context(directory))
        writer.write(encode_frame(Hello("test-0badcafe", 0, Role.REPLICA, "1")) + encode_frame(FetchBatches(0)))
        assert await read_to_end(reader) == b""
        assert not inbox
        writer.close()


async def test_a_replica_is_refused_on_the_clients_port(directory):
    async with client_port(directory) as (port, inbox, address):
        reader, writer = await connect(address, replica_contexts(directory, 1)[1])
        writer.write(HELLO + QUERY)
        assert await read_to_end(reader) == b""
        assert not inbox
        assert len(port) == 0
        writer.close()


async def test_no_byte_reaches_a_client_without_certificate(directory):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with client_port(directory) as (port, inbox, address):
        reader, writer = await connect(address, context)
        writer.write(HELLO + QUERY)
        assert await read_to_end(reader) == b""
        assert not inbox
        assert port.listener.refused["TLS handshake"] == 1
        writer.close()


async def test_a_client_of_another_ca_is_refused(directory, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    make_cluster(other)
    home = other / "clients" / "test"
    context = tls.client_context(
        certificate=home / "client.crt", key=home / "client.key", ca=directory / "ca" / "ca.crt"
    )
    async with client_port(directory) as (_, inbox, address):
        reader, writer = await connect(address, context)
        assert await read_to_end(reader) == b""
        assert not inbox
        writer.close()


@pytest.mark.parametrize(
    "hello",
    [
        Hello("another", 0, Role.CLIENT, "test"),
        Hello("test-0badcafe", 1, Role.CLIENT, "test"),
        Hello("test-0badcafe", 0, Role.ADMIN, "test"),
        Hello("test-0badcafe", 0, Role.CLIENT, "somebody"),
    ],
    ids=["cluster", "epoch", "role", "name"],
)
async def test_a_hello_that_does_not_agree_with_certificate_and_cluster_ends_the_link(directory, hello):
    async with client_port(directory) as (port, inbox, address):
        reader, writer = await connect(address, client_context(directory))
        writer.write(encode_frame(hello) + QUERY)
        await read_to_end(reader)
        assert not inbox
        await until(lambda: len(port) == 0)
        writer.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff\xff\xff\xff\x01\x01",
        b"\0\0\0\x04\x02\x01\x90\x90",
        b"\0\0\0\x03\x01\x63\x90",
        b"GET / HTTP/1.1\r\n\r\n",
        QUERY,
    ],
    ids=["4 GiB", "version", "type", "http", "no hello"],
)
async def test_garbage_ends_its_link_and_no_other(directory, garbage):
    add_client(directory, "good")
    async with client_port(directory) as (port, inbox, address):
        good_reader, good = await connect(address, client_context(directory, "good"))
        good.write(encode_frame(Hello("test-0badcafe", 0, Role.CLIENT, "good")))
        reader, bad = await connect(address, client_context(directory))
        bad.write(garbage)
        await read_to_end(reader)
        await until(lambda: len(port) == 1)
        good.write(QUERY)
        await until(lambda: len(inbox) == 1)
        assert port.closed_for_cause == 1
        assert not good_reader.at_eof()
        good.close()
        bad.close()


async def test_a_client_has_a_limited_number_of_links(directory, monkeypatch):
    monkeypatch.setattr("bft.net.clients.LINKS_PER_CLIENT_MAX", 2)
    async with client_port(directory) as (port, _, address):
        links = [await connect(address, client_context(directory)) for _ in range(2)]
        await until(lambda: len(port) == 2)
        reader, writer = await connect(address, client_context(directory))
        assert await read_to_end(reader) == b""
        assert len(port) == 2
        for _, each in (*links, (reader, writer)):
            each.close()


async def test_half_open_handshakes_of_one_address_are_limited(directory, monkeypatch):
    monkeypatch.setattr("bft.net.listener.HALF_OPEN_PER_ADDRESS_MAX", 3)
    async with client_port(directory) as (port, _, address):
        silent = [await asyncio.open_connection(address.host, address.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection(address.host, address.port)
        assert await read_to_end(reader) == b""
        assert port.listener.refused["too many half-open connections"] == 1
        for _, each in (*silent, (reader, writer)):
            each.close()


async def test_a_silent_handshake_is_cut_off(directory, monkeypatch):
    monkeypatch.setattr("bft.net.listener.HANDSHAKE_TIMEOUT_S", 0.05)
    async with client_port(directory) as (port, _, address):
        reader, writer = await asyncio.open_connection(address.host, address.port)
        assert await read_to_end(reader) == b""
        await until(lambda: port.listener.refused["TLS handshake"] == 1)
        writer.close()


async def test_a_port_in_use_is_said_with_what_to_do(directory):
    (number,) = free_ports(1)
    address = Address("127.0.0.1", number)
    context = replica_contexts(directory, 0)[0]
    first = Listener("peer", address, context, lambda: pytest.fail("no link"), Notices())
    first.bind()
    with pytest.raises(EnvironmentFailure, match=f"peer port 127.0.0.1:{number} is in use.*listen_peer"):
        Listener("peer", address, context, lambda: pytest.fail("no link"), Notices()).bind()
    task = asyncio.ensure_future(first.serve())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_oldest_frames_give_way_when_the_other_end_does_not_read(directory):
    limits = Limits.of(load_replica(directory / "replica-0", {}).cluster.parameters)
    domain = load_replica(directory / "replica-0", {}).cluster.domain
    settings = LinkSettings(
        domain, Subject(domain.cluster, Role.REPLICA, "0"), limits, limits.peer, waiting_bytes_max=10
    )
    link = Link(peer_network(directory, 0, Inbox(lambda: None)), settings)
    for number in range(5):
        link.send(b"frame%d" % number)
    assert list(link._waiting) == [b"frame4"]
    assert link.dropped == 4


async def test_a_frame_larger_than_the_bound_is_sent_alone(directory):
    config = load_replica(directory / "replica-0", {})
    limits = Limits.of(config.cluster.parameters)
    subject = Subject(config.cluster.cluster, Role.REPLICA, "0")
    settings = LinkSettings(config.cluster.domain, subject, limits, limits.peer, waiting_bytes_max=10)
    link = Link(peer_network(directory, 0, Inbox(lambda: None)), settings)
    link.send(bytes(100))
    assert link.dropped == 0


async def test_answers_go_to_the_link_that_the_session_sent_from(directory):
    async with client_port(directory) as (port, inbox, address):
        links = [await connect(address, client_context(directory)) for _ in range(2)]
        for number, (_, writer) in enumerate(links):
            writer.write(HELLO + replace_nonce(number))
        await until(lambda: len(inbox) == 2)
        frames = sorted(inbox.take(from_replicas=0, from_clients=2), key=lambda frame: frame.body)
        key = frames[0].source.key
        for session, frame in enumerate(frames, start=10):
            port.remember(key, session, frame.link)
        assert list(port.route(key, 10)) == [frames[0].link]
        assert list(port.route(key, 11)) == [frames[1].link]
        assert set(port.route(key, 12)) == {frames[0].link, frames[1].link}
        links[0][1].close()
        await until(lambda: len(port) == 1)
        assert list(port.route(key, 10)) == [frames[1].link]
        links[1][1].close()


def replace_nonce(number: int) -> bytes:
    return QUERY[:7] + bytes([number]) + QUERY[8:]


def test_settings_name_the_sender_in_hello(directory):
    config = load_replica(directory / "replica-0", {})
    limits = Limits.of(config.cluster.parameters)
    subject = Subject(config.cluster.cluster, Role.REPLICA, "0")
    settings = LinkSettings(config.cluster.domain, subject, limits, limits.peer, waiting_bytes_max=1)
    expected = Hello(config.cluster.cluster, 0, Role.REPLICA, "0")
    assert settings.hello == encode_frame(expected)
    assert settings.hello != encode_frame(replace(expected, name="1"))
