"""Logins and TLS against a real broker: what works, and what is said of what does not."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError

from runstream_schemas.kafka import Connection, causes_kept, connection, explain, may_retry
from runstream_schemas.streams import KafkaStream, parse_stream
from support.kafka import KafkaCluster
from support.kafka_security import USERS, Operation, Resource

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PACKAGE = "org.apache.kafka.common.security"
GROUP = "runstream-test"
DEADLINE = 60

Settings = dict[str, object]


def connected(cluster: KafkaCluster, topic: str, listener: str, settings: Settings) -> Connection:
    """The connection that a program with these settings has; their names lack their prefix here."""
    stream = parse_stream(cluster.stream(topic, listener))
    assert isinstance(stream, KafkaStream)
    return connection(stream, {f"RUNSTREAM_KAFKA_{name.upper()}": str(value) for name, value in settings.items()})


def login(cluster: KafkaCluster, user: str = "admin", mechanism: str = "SCRAM-SHA-512", **others: object) -> Settings:
    """Settings of a login over TLS."""
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "username": user,
        "password": USERS[user],
        "ca_file": cluster.secrets.ca_file,
    } | others


def showing(cluster: KafkaCluster, **identity: object) -> Settings:
    """Settings of a client that shows a certificate."""
    return {"security_protocol": "SSL", "ca_file": cluster.secrets.ca_file} | identity


@asynccontextmanager
async def started(client: Any) -> AsyncIterator[Any]:
    """A client of aiokafka, connected."""
    try:
        async with asyncio.timeout(DEADLINE):
            with causes_kept():
                await client.start()
                yield client
    finally:
        await client.stop()


async def send(found: Connection) -> None:
    """One record, as what ships sends it."""
    client = AIOKafkaProducer(enable_idempotence=True, acks="all", **found.arguments())
    async with started(client) as producer:
        await producer.send_and_wait(found.stream.topic, b"value")


async def receive(found: Connection) -> bytes:
    """The first record, as a member of a group reads it."""
    client = AIOKafkaConsumer(
        found.stream.topic,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **found.arguments(),
    )
    async with started(client) as consumer:
        return bytes((await consumer.getone()).value)


async def refused(found: Connection, action: Callable[[Connection], Any] = send) -> str:
    """What is said of the failure of an action that waiting does not mend; where it might, it is tried again."""
    async with asyncio.timeout(DEADLINE):
        while True:
            with pytest.raises(KafkaError) as caught:
                await action(found)
            if not may_retry(caught.value):
                break
    said = explain(caught.value, found.stream)
    assert str(found.stream) in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_each_mechanism_works_by_settings(
    secured: KafkaCluster, topic: str, mechanism: str, protocol: str
) -> None:
    """Over TLS and without, for what ships and for what reads."""
    await secured.create_topic(topic)
    settings = login(secured, mechanism=mechanism, security_protocol=protocol)
    if protocol == "SASL_PLAINTEXT":
        del settings["ca_file"]
    found = connected(secured, topic, protocol, settings)
    await send(found)
    assert await receive(found) == b"value"


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_each_mechanism_works_by_a_file_of_properties(
    secured: KafkaCluster, topic: str, mechanism: str, tmp_path: Path
) -> None:
    """Such as Java's tools take."""
    await secured.create_topic(topic)
    module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
    properties = tmp_path / "client.properties"
    properties.write_text(
        f"security.protocol=SASL_SSL\nsasl.mechanism={mechanism}\n"
        f'sasl.jaas.config={PACKAGE}.{module} required \\\n  username="admin" password="{USERS["admin"]}";\n'
        f"ssl.truststore.type=PEM\nssl.truststore.location={secured.secrets.ca_file}\n"
    )
    found = connected(secured, topic, "SASL_SSL", {"properties": properties})
    await send(found)
    assert await receive(found) == b"value"


async def allow(cluster: KafkaCluster, user: str, topic: str) -> None:
    """Let a user do with a topic what a stream needs."""
    await cluster.rights.grant(user, Resource.TOPIC, topic, Operation.WRITE, Operation.READ, Operation.DESCRIBE)
    await cluster.rights.grant(user, Resource.GROUP, "runstream-", Operation.READ, prefixed=True)


async def test_a_client_certificate_works_by_settings(secured: KafkaCluster, topic: str) -> None:
    """With a plain key and with an encrypted one."""
    await secured.create_topic(topic)
    await allow(secured, "CN=client", topic)
    client = secured.secrets.client
    await send(connected(secured, topic, "SSL", showing(secured, cert_file=client.certificate, key_file=client.key)))
    encrypted = showing(
        secured, cert_file=client.certificate, key_file=client.encrypted_key, key_password=client.key_password
    )
    assert await receive(connected(secured, topic, "SSL", encrypted)) == b"value"


async def test_a_client_certificate_works_by_a_file_of_properties(
    secured: KafkaCluster, topic: str, tmp_path: Path
) -> None:
    """In PEM, key and certificate in one file."""
    await secured.create_topic(topic)
    await allow(secured, "CN=client", topic)
    properties = tmp_path / "client.properties"
    properties.write_text(
        "security.protocol=SSL\n"
        f"ssl.truststore.type=PEM\nssl.truststore.location={secured.secrets.ca_file}\n"
        f"ssl.keystore.type=PEM\nssl.keystore.location={secured.secrets.client.together}\n"
    )
    found = connected(secured, topic, "SSL", {"properties": properties})
    await send(found)
    assert await receive(found) == b"value"


async def test_a_certificate_for_another_host_works_where_that_is_not_checked(
    secured: KafkaCluster, topic: str
) -> None:
    """And only there."""
    await secured.create_topic(topic)
    await send(connected(secured, topic, "MISNAMED", login(secured, check_hostname="no")))
    said = await refused(connected(secured, topic, "MISNAMED", login(secured)))
    assert "show a certificate for another host" in said
    assert "RUNSTREAM_KAFKA_CHECK_HOSTNAME=no" in said


@pytest.mark.parametrize("mechanism", MECHANISMS)
async def test_a_wrong_password_is_said_to_be_wrong(secured: KafkaCluster, topic: str, mechanism: str) -> None:
    """With the settings that hold it, and without it."""
    settings = login(secured, mechanism=mechanism, password="not-the-password")
    said = await refused(connected(secured, topic, "SASL_SSL", settings))
    assert "refuse the login" in said
    assert "RUNSTREAM_KAFKA_PASSWORD" in said
    assert "not-the-password" not in said


async def test_an_unknown_authority_is_said_to_be_unknown(secured: KafkaCluster, topic: str) -> None:
    """Be it another one, or the system's."""
    settings = login(secured, ca_file=secured.secrets.stranger.certificate)
    without = {name: value for name, value in settings.items() if name != "ca_file"}
    for untrusting in (settings, without):
        said = await refused(connected(secured, topic, "SASL_SSL", untrusting))
        assert "show a certificate that is not trusted" in said
        assert "set RUNSTREAM_KAFKA_CA_FILE" in said


async def test_a_client_without_a_good_certificate_is_told_to_show_one(secured: KafkaCluster, topic: str) -> None:
    """Be it that it shows none, or one by a stranger."""
    stranger = secured.secrets.stranger_client
    for identity in ({}, {"cert_file": stranger.certificate, "key_file": stranger.key}):
        said = await refused(connected(secured, topic, "SSL", showing(secured, **identity)))
        assert "refuse the client's certificate, or miss one" in said
        assert "set RUNSTREAM_KAFKA_CERT_FILE" in said


async def test_a_user_who_may_not_write_is_told_what_to_allow(secured: KafkaCluster, topic: str) -> None:
    """Who may write nothing at all fails earlier than who may write elsewhere."""
    await secured.create_topic(topic)
    found = connected(secured, topic, "SASL_SSL", login(secured, "alice"))
    assert "the user may not write to kafka://" in await refused(found)
    await secured.rights.grant("alice", Resource.TOPIC, "elsewhere", Operation.WRITE)
    assert f"the user may not use the topic {topic} of" in await refused(found)
    await secured.rights.grant("alice", Resource.TOPIC, topic, Operation.WRITE)
    await send(found)


async def test_a_user_who_may_not_read_is_told_what_to_allow(secured: KafkaCluster, topic: str) -> None:
    """The topic, and the consumer group."""
    await secured.create_topic(topic)
    await send(connected(secured, topic, "SASL_SSL", login(secured)))
    found = connected(secured, topic, "SASL_SSL", login(secured, "bob"))
    await secured.rights.grant("bob", Resource.TOPIC, topic, Operation.READ)
    assert f"the user may not use the consumer group ({GROUP})" in await refused(found, receive)
    await secured.rights.revoke("bob", Resource.TOPIC, topic, Operation.READ)
    await secured.rights.grant("bob", Resource.GROUP, "runstream-", Operation.READ, prefixed=True)
    assert f"the user may not use the topic {topic} of" in await refused(found, receive)
    await secured.rights.grant("bob", Resource.TOPIC, topic, Operation.READ)
    assert await receive(found) == b"value"


async def test_a_login_where_none_is_expected_is_said_to_be_none(secured: KafkaCluster, topic: str) -> None:
    """The port is for clients without one."""
    settings = login(secured, security_protocol="SASL_PLAINTEXT")
    del settings["ca_file"]
    said = await refused(connected(secured, topic, "PLAINTEXT", settings))
    assert "expect no login where they were reached" in said


@pytest.mark.parametrize(
    ("listener", "settings"),
    [("SASL_SSL", {}), ("SASL_PLAINTEXT", {}), ("PLAINTEXT", {"security_protocol": "SSL"})],
)
async def test_a_wrong_protocol_is_among_the_reasons_why_a_connection_fails(
    secured: KafkaCluster, topic: str, listener: str, settings: Settings
) -> None:
    """The broker just closes it, so that nothing certain can be said."""
    found = connected(secured, topic, listener, settings)
    with pytest.raises(KafkaConnectionError) as caught:
        await send(found)
    said = explain(caught.value, found.stream)
    assert "RUNSTREAM_KAFKA_SECURITY_PROTOCOL" in said
