"""The servers do what other tests rely on."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAuthorizationFailedError
from aiokafka.helpers import create_ssl_context

from support.kafka import PROXIED, KafkaCluster, read_topic
from support.kafka_security import USERS, Operation, Resource
from support.waiting import until

DEADLINE = 60
TESTS = str(Path(__file__).parent.parent)


@contextlib.asynccontextmanager
async def producing(bootstrap: str, **arguments: Any) -> AsyncIterator[AIOKafkaProducer]:
    """A started producer."""
    chosen = {"enable_idempotence": True, "retry_backoff_ms": 50, "request_timeout_ms": 5_000} | arguments
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **chosen)
    async with asyncio.timeout(DEADLINE):
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()


async def produce(bootstrap: str, topic: str, *values: bytes, **arguments: Any) -> None:
    """Send to partition 0, one after another."""
    async with producing(bootstrap, **arguments) as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


def by_password(cluster: KafkaCluster, user: str, password: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
    """What a client of SASL_SSL needs."""
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": password,
        "ssl_context": create_ssl_context(cafile=str(cluster.secrets.ca_file)),
    }


async def values(cluster: KafkaCluster, topic: str) -> list[bytes]:
    """All that a topic holds."""
    return [record.value for record in await cluster.read(topic)]


async def test_what_is_produced_can_be_read(broker: KafkaCluster, topic: str) -> None:
    """Through the plain listener, and as a stream's text names it."""
    await broker.create_topic(topic)
    await produce(broker.servers(), topic, b"a", b"b")
    assert await values(broker, topic) == [b"a", b"b"]
    assert broker.stream(topic) == f"kafka://{broker.servers()}/{topic}"


async def test_a_topic_comes_into_being_only_when_it_is_created(broker: KafkaCluster, topic: str) -> None:
    """The broker does not create it for whoever asks."""
    async with broker.admin() as admin:
        await admin.describe_topics([topic])  # such a question may create it, where the broker is so configured
        assert topic not in await admin.list_topics()


async def test_a_deleted_topic_comes_back_empty(broker: KafkaCluster, topic: str) -> None:
    """At once, under its old name."""
    await broker.create_topic(topic)
    await produce(broker.servers(), topic, b"old")
    await broker.delete_topic(topic)
    await broker.create_topic(topic)
    assert await values(broker, topic) == []


async def test_partitions_are_added(broker: KafkaCluster, topic: str) -> None:
    """They can be written and read."""
    await broker.create_topic(topic, 1)
    await broker.raise_partitions(topic, 3)
    async with producing(broker.servers()) as producer:
        for partition in reversed(range(3)):
            await producer.send_and_wait(topic, b"%d" % partition, partition=partition)
    assert [(record.partition, record.value) for record in await broker.read(topic)] == [
        (0, b"0"),
        (1, b"1"),
        (2, b"2"),
    ]


async def test_records_are_deleted_up_to_an_offset(broker: KafkaCluster, topic: str) -> None:
    """Later ones keep their offsets."""
    await broker.create_topic(topic)
    await produce(broker.servers(), topic, b"a", b"b", b"c")
    await broker.delete_records(topic, 2)
    assert [(record.offset, record.value) for record in await broker.read(topic)] == [(2, b"c")]


async def test_a_configuration_holds_from_when_it_was_set(broker: KafkaCluster, topic: str) -> None:
    """Shown by the size of a record that the topic takes."""
    await broker.create_topic(topic, config={"max.message.bytes": "500"})
    async with producing(broker.servers()) as producer:
        with pytest.raises(KafkaError, match="MessageSizeTooLarge"):
            await producer.send_and_wait(topic, bytes(1_000))
    await broker.configure_topic(topic, {"max.message.bytes": "5000"})
    await produce(broker.servers(), topic, bytes(1_000))
    assert await values(broker, topic) == [bytes(1_000)]


async def test_offsets_of_a_group_are_told(broker: KafkaCluster, topic: str) -> None:
    """What a consumer committed."""
    await broker.create_topic(topic)
    await produce(broker.servers(), topic, b"a", b"b")
    partition = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=broker.servers(), group_id=topic, enable_auto_commit=False
    ) as consumer:
        consumer.assign([partition])
        await consumer.commit({partition: 1})
    assert await broker.committed(topic) == {partition: 1}


async def test_another_node_leads_after_a_leader_was_killed(cluster: KafkaCluster, topic: str) -> None:
    """What was acknowledged stays, sending goes on, and the node comes back with all of it."""
    await cluster.create_topic(topic)
    async with producing(cluster.servers(), acks="all") as producer:
        await producer.send_and_wait(topic, b"before")
        first = await cluster.leader(topic)
        cluster.nodes[first].kill()
        await producer.send_and_wait(topic, b"after")
    assert await cluster.leader(topic) != first
    assert await values(cluster, topic) == [b"before", b"after"]
    await cluster.restart(first)
    await cluster.in_sync(topic)


async def test_another_node_leads_while_a_leader_is_paused(cluster: KafkaCluster, topic: str) -> None:
    """Its connections stay open; it follows when it goes on."""
    await cluster.create_topic(topic)
    first = await cluster.leader(topic)
    cluster.nodes[first].pause()
    assert await cluster.leader(topic) != first
    cluster.nodes[first].resume()
    await cluster.in_sync(topic)


async def test_a_node_keeps_its_data_and_its_address(proxied: KafkaCluster, topic: str) -> None:
    """However it ended."""
    await proxied.create_topic(topic)
    address = proxied.servers()
    await produce(address, topic, b"a")
    await proxied.restart(1)
    assert proxied.servers() == address
    assert await values(proxied, topic) == [b"a"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_password_opens_the_door(secured: KafkaCluster, topic: str, mechanism: str) -> None:
    """By every mechanism."""
    await secured.create_topic(topic)
    arguments = by_password(secured, "admin", USERS["admin"], mechanism)
    await produce(secured.servers("SASL_SSL"), topic, b"a", **arguments)
    assert [r.value for r in await read_topic(secured.servers("SASL_SSL"), topic, **arguments)] == [b"a"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_wrong_password_does_not(secured: KafkaCluster, mechanism: str) -> None:
    """The client cannot start."""
    with pytest.raises(KafkaConnectionError):
        async with producing(secured.servers("SASL_SSL"), **by_password(secured, "admin", "wrong", mechanism)):
            pass


async def test_a_user_may_do_what_is_granted(secured: KafkaCluster, topic: str) -> None:
    """Not before, and not after it was revoked."""
    await secured.create_topic(topic)
    # An idempotent producer is refused earlier: whoever may write nowhere gets no producer id.
    arguments = by_password(secured, "alice", USERS["alice"])
    server = secured.servers("SASL_SSL")
    with pytest.raises(TopicAuthorizationFailedError):
        await produce(server, topic, b"refused", enable_idempotence=False, **arguments)
    await secured.rights.grant("alice", Resource.TOPIC, topic[:10], Operation.WRITE, Operation.READ, prefixed=True)
    await produce(server, topic, b"taken", **arguments)
    assert [record.value for record in await read_topic(server, topic, **arguments)] == [b"taken"]
    await secured.rights.revoke("alice", Resource.TOPIC, topic[:10], Operation.WRITE, prefixed=True)
    with pytest.raises(TopicAuthorizationFailedError):
        await produce(server, topic, b"refused", enable_idempotence=False, **arguments)


async def test_a_client_certificate_opens_the_door(secured: KafkaCluster, topic: str) -> None:
    """It is a user whose rights can be granted; its key may be encrypted."""
    await secured.create_topic(topic)
    await secured.rights.grant("CN=client", Resource.TOPIC, topic, Operation.ALL)
    client = secured.secrets.client
    context = create_ssl_context(
        cafile=str(secured.secrets.ca_file),
        certfile=str(client.certificate),
        keyfile=str(client.encrypted_key),
        password=client.key_password,
    )
    await produce(secured.servers("SSL"), topic, b"a", security_protocol="SSL", ssl_context=context)
    assert await values(secured, topic) == [b"a"]


@pytest.mark.parametrize("who", ["nobody", "a stranger"])
async def test_without_a_certificate_by_the_right_authority_the_door_stays_closed(
    secured: KafkaCluster, who: str
) -> None:
    """No certificate, or one by an authority that the cluster does not know."""
    context = create_ssl_context(cafile=str(secured.secrets.ca_file))
    if who == "a stranger":
        stranger = secured.secrets.stranger_client
        context.load_cert_chain(stranger.certificate, stranger.key)
    with pytest.raises(KafkaConnectionError):
        async with producing(secured.servers("SSL"), security_protocol="SSL", ssl_context=context):
            pass


async def test_a_certificate_for_another_host_is_noticed(secured: KafkaCluster) -> None:
    """By clients that look at the name; others get in."""
    arguments = by_password(secured, "admin", USERS["admin"])
    with pytest.raises(KafkaConnectionError):
        async with producing(secured.servers("MISNAMED"), **arguments):
            pass
    arguments["ssl_context"].check_hostname = False
    async with producing(secured.servers("MISNAMED"), **arguments):
        pass
    assert arguments["ssl_context"].verify_mode is ssl.CERT_REQUIRED


async def test_clients_of_a_proxy_stay_with_it(proxied: KafkaCluster, topic: str) -> None:
    """The address that the broker tells them is the proxy's."""
    await proxied.create_topic(topic)
    async with producing(proxied.servers(PROXIED)) as producer:
        await producer.send_and_wait(topic, b"a")
        assert {broker.port for broker in producer.client.cluster.brokers()} == {proxied.proxies[1].port}
    assert await values(proxied, topic) == [b"a"]


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [("reset_peer", {"timeout": 0}), ("limit_data", {"bytes": 30}), ("timeout", {"timeout": 100})],
)
async def test_a_cut_connection_is_made_anew(
    proxied: KafkaCluster, topic: str, kind: str, attributes: dict[str, int]
) -> None:
    """An idempotent producer sends again what was not acknowledged, and it is there once."""
    await proxied.create_topic(topic)
    proxy = proxied.proxies[1]
    async with producing(proxied.servers(PROXIED)) as producer:
        await producer.send_and_wait(topic, b"before")
        with proxy.toxic(kind, **attributes):
            sent = await producer.send(topic, b"during")
            connection = next(iter(producer.client._conns.values()))
            await until(lambda: not connection.connected(), DEADLINE)
        await sent
    assert await values(proxied, topic) == [b"before", b"during"]


async def test_a_slow_connection_is_slow_both_ways(proxied: KafkaCluster, topic: str) -> None:
    """Nothing is faster than its latency."""
    await proxied.create_topic(topic)
    async with producing(proxied.servers(PROXIED)) as producer:
        await producer.send_and_wait(topic, b"quick")
        with proxied.proxies[1].toxic("latency", latency=100, jitter=0):
            loop = asyncio.get_running_loop()
            begun = loop.time()
            await producer.send_and_wait(topic, b"slow")
            assert loop.time() - begun >= 0.1


async def test_a_proxy_that_is_switched_off_lets_nobody_through(proxied: KafkaCluster, topic: str) -> None:
    """Until it is switched on again."""
    await proxied.create_topic(topic)
    with proxied.proxies[1].disabled(), pytest.raises(KafkaConnectionError):
        async with producing(proxied.servers(PROXIED)):
            pass
    await produce(proxied.servers(PROXIED), topic, b"a")
    assert await values(proxied, topic) == [b"a"]


async def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    """However that process ends."""
    program = (
        "import sys, time; from pathlib import Path; from support.servers import Server;"
        "server = Server(['sleep', '1000'], Path(sys.argv[1])); server.launch(); print(server.pid, flush=True);"
        "time.sleep(1000)"
    )
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, tmp_path / "log", stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": TESTS}
    )
    assert starter.stdout is not None
    server = int(await starter.stdout.readline())
    assert running(server)
    starter.kill()
    await starter.wait()
    await until(lambda: not running(server), DEADLINE)


def running(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
