"""A real topic as a transport: what is acknowledged is there, in order; what fails says why, in time."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runstream.shipping.kafka_transport import KafkaTransport
from runstream.shipping.transport import TransportError
from runstream_schemas.streams import KafkaStream, parse_stream
from support.kafka import PROXIED, KafkaCluster
from support.kafka_security import USERS, Operation, Resource

KEY = bytes(16)
TIMEOUT = 60


def _stream(text: str) -> KafkaStream:
    stream = parse_stream(text)
    assert isinstance(stream, KafkaStream)
    return stream


@asynccontextmanager
async def _open(text: str, *, stalled: float = 30) -> AsyncIterator[KafkaTransport]:
    transport = KafkaTransport(_stream(text), stalled=stalled)
    try:
        await transport.open()
        yield transport
    finally:
        await transport.close()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUNSTREAM_KAFKA"):
            monkeypatch.delenv(name)


async def test_values_of_one_call_lie_in_one_partition_in_their_order(broker: KafkaCluster, topic: str) -> None:
    """With the key, and a header that tells batches and chunks apart."""
    await broker.create_topic(topic, 5)
    async with _open(broker.stream(topic)) as transport:
        keys = [bytes([number]) * 16 for number in range(8)]
        values = [b"RSB1%d" % number for number in range(50)] + [b"RSC1"]
        await asyncio.gather(*(transport.send(key, values) for key in keys))
    records = await broker.read(topic)
    for key in keys:
        found = [record for record in records if record.key == key]
        assert [record.value for record in found] == values
        assert len({record.partition for record in found}) == 1
        assert [dict(record.headers)["runstream-type"] for record in found[-2:]] == [b"batch", b"chunk"]
    assert len({record.partition for record in records}) > 1


@pytest.mark.parametrize("compression", ["zstd", "lz4", "gzip", "none"])
async def test_more_than_the_window_is_taken_as_it_is_acknowledged(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    """Several calls share it; each value is taken when there is room for it."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_COMPRESSION", compression)
    monkeypatch.setattr("runstream.shipping.kafka_transport._WINDOW", 1 << 20)
    pieces = [os.urandom(400_000) for _ in range(10)]

    def values() -> Iterator[bytes]:
        yield from pieces

    async with _open(broker.stream(topic)) as transport:
        await asyncio.gather(*(transport.send(bytes([number]) * 16, values()) for number in range(3)))
    records = await broker.read(topic)
    for number in range(3):
        assert [record.value for record in records if record.key == bytes([number]) * 16] == pieces


async def test_a_missing_topic_is_created_by_whoever_comes_first(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the settings say; who comes at the same time does not mind."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_PARTITIONS", "7")
    monkeypatch.setenv("RUNSTREAM_KAFKA_REPLICATION", "1")
    transports = [KafkaTransport(_stream(broker.stream(topic))) for _ in range(3)]
    await asyncio.gather(*(transport.open() for transport in transports))
    await asyncio.gather(*(transport.close() for transport in transports))
    async with broker.admin() as admin:
        assert len(await admin.partitions(1, topic)) == 7


async def test_a_topic_that_may_not_be_created_is_named_with_the_command(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for it does not create it either."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_CREATE_TOPIC", "no")
    transport = KafkaTransport(_stream(broker.stream(topic)))
    for _ in range(2):
        with pytest.raises(TransportError, match=rf"kafka-topics.sh .* --create --topic {topic}") as refusal:
            await transport.open()
        assert not refusal.value.may_retry
    await broker.create_topic(topic)
    await transport.open()
    await transport.close()


async def test_settings_that_no_topic_can_have_are_refused_with_a_reason(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More copies than there are brokers."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_REPLICATION", "5")
    with pytest.raises(TransportError, match="RUNSTREAM_KAFKA_REPLICATION"):
        await KafkaTransport(_stream(broker.stream(topic))).open()


async def test_the_limit_is_what_the_topic_takes(broker: KafkaCluster, topic: str) -> None:
    """A value of that size is taken; when less is allowed, opening it again tells."""
    await broker.create_topic(topic, config={"max.message.bytes": "200000"})
    async with _open(broker.stream(topic)) as transport:
        assert 199_000 < transport.limit < 200_000
        await transport.send(KEY, [os.urandom(transport.limit)])
        await broker.configure_topic(topic, {"max.message.bytes": "100000"})
        with pytest.raises(TransportError, match="larger than the topic") as refusal:
            await transport.send(KEY, [os.urandom(transport.limit)])
        assert refusal.value.may_retry
        await transport.open()
        assert 99_000 < transport.limit < 100_000
        await transport.send(KEY, [os.urandom(transport.limit)])


async def test_a_topic_that_takes_next_to_nothing_is_refused(broker: KafkaCluster, topic: str) -> None:
    """With the command that helps."""
    await broker.create_topic(topic, config={"max.message.bytes": "1000"})
    with pytest.raises(TransportError, match=r"kafka-configs\.sh"):
        await KafkaTransport(_stream(broker.stream(topic))).open()


async def test_partitions_that_are_added_are_used(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, without anybody's doing; each call goes to one partition."""
    monkeypatch.setattr("runstream.shipping.kafka_transport._METADATA", 200)
    await broker.create_topic(topic)
    async with _open(broker.stream(topic)) as transport:
        await transport.send(KEY, [b"RSB1"])
        await broker.raise_partitions(topic, 8)
        used: set[int] = set()
        while len(used) < 2:
            await asyncio.gather(*(transport.send(os.urandom(16), [b"RSB1"]) for _ in range(10)))
            used = {record.partition for record in await broker.read(topic)}


async def test_it_fails_when_nothing_is_acknowledged_any_more(proxied: KafkaCluster, topic: str) -> None:
    """The connection stands and nobody answers; closing takes seconds, and then it can be opened again."""
    await proxied.create_topic(topic)
    async with _open(proxied.stream(topic, PROXIED), stalled=1) as transport:
        await transport.send(KEY, [b"RSB1 before"])
        proxied.nodes[1].pause()
        with pytest.raises(TransportError, match="no broker") as failure:
            await asyncio.wait_for(transport.send(KEY, [b"RSB1 meanwhile"]), TIMEOUT)
        assert failure.value.may_retry
        await asyncio.wait_for(transport.close(), TIMEOUT)
        with pytest.raises(TransportError, match="is not open"):
            await transport.send(KEY, [b"RSB1"])
        proxied.nodes[1].resume()
        await transport.open()
        await transport.send(KEY, [b"RSB1 after"])
    values = [record.value for record in await proxied.read(topic)]
    assert (values[0], values[-1]) == (b"RSB1 before", b"RSB1 after")


async def test_a_killed_broker_fails_it_and_its_return_heals_it(proxied: KafkaCluster, topic: str) -> None:
    """Opening says that nobody is there."""
    await proxied.create_topic(topic)
    async with _open(proxied.stream(topic), stalled=1) as transport:
        proxied.nodes[1].kill()
        with pytest.raises(TransportError):
            await asyncio.wait_for(transport.send(KEY, [b"RSB1"] * 3), TIMEOUT)
        with pytest.raises(TransportError, match="no broker") as failure:
            await asyncio.wait_for(transport.open(), TIMEOUT)
        assert failure.value.may_retry
        await proxied.restart(1)
        await transport.open()
        await transport.send(KEY, [b"RSB1 after"])
    assert (await proxied.read(topic))[-1].value == b"RSB1 after"


async def test_a_deleted_topic_does_not_hang_it(broker: KafkaCluster, topic: str) -> None:
    """It fails, and makes the topic anew when it is opened: whoever reads it refuses that, if it knew the old one."""
    await broker.create_topic(topic)
    async with _open(broker.stream(topic), stalled=2) as transport:
        await transport.send(KEY, [b"RSB1"])
        await broker.delete_topic(topic)
        with pytest.raises(TransportError):
            await _send_on(transport)


async def _send_on(transport: KafkaTransport) -> None:
    while True:
        await asyncio.wait_for(transport.send(KEY, [b"RSB1"]), TIMEOUT)


def _log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, password: str) -> Path:
    """Be alice, by a file with a password."""
    file = tmp_path / "password"
    file.write_text(password)
    monkeypatch.setenv("RUNSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("RUNSTREAM_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("RUNSTREAM_KAFKA_USERNAME", "alice")
    monkeypatch.setenv("RUNSTREAM_KAFKA_PASSWORD_FILE", str(file))
    return file


async def test_a_password_that_is_replaced_is_used_at_the_next_opening(
    secured: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wrong one is refused with a reason, which does not name it, and cannot be waited away."""
    await secured.create_topic(topic)
    await secured.rights.grant("alice", Resource.TOPIC, topic, Operation.WRITE)
    password = _log_in(monkeypatch, tmp_path, "not-her-password")
    transport = KafkaTransport(_stream(secured.stream(topic, "SASL_PLAINTEXT")))
    with pytest.raises(TransportError, match="refuse the login") as refusal:
        await transport.open()
    assert not refusal.value.may_retry
    assert "not-her-password" not in str(refusal.value)
    password.write_text(USERS["alice"])
    await transport.open()
    await transport.send(KEY, [b"RSB1"])
    await transport.close()


async def test_without_permission_to_ask_for_the_limit_the_usual_one_holds_until_it_is_refused(
    secured: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Then half of it is tried, and so on."""
    await secured.create_topic(topic, config={"max.message.bytes": "300000"})
    await secured.rights.grant("alice", Resource.TOPIC, topic, Operation.WRITE)
    _log_in(monkeypatch, tmp_path, USERS["alice"])
    async with _open(secured.stream(topic, "SASL_PLAINTEXT")) as transport:
        limits = [transport.limit]
        while True:
            try:
                await transport.send(KEY, [os.urandom(transport.limit)])
            except TransportError:
                await transport.open()
                limits.append(transport.limit)
            else:
                break
    assert limits[0] > 900_000
    assert 200_000 < limits[-1] < 300_000
    assert len(limits) == 3


async def test_what_the_user_may_not_do_is_told(
    secured: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither see the topic, nor create it, nor write to it."""
    _log_in(monkeypatch, tmp_path, USERS["alice"])
    transport = KafkaTransport(_stream(secured.stream(topic, "SASL_PLAINTEXT")))
    with pytest.raises(TransportError, match=f"may not use the topic {topic}"):
        await transport.open()
    await secured.rights.grant("alice", Resource.TOPIC, topic, Operation.DESCRIBE)
    with pytest.raises(TransportError, match="may not create it; create it: kafka-topics"):
        await transport.open()
    await secured.create_topic(topic)
    with pytest.raises(TransportError, match="may not write to") as refusal:
        await transport.open()
    assert not refusal.value.may_retry
    await transport.close()


async def test_settings_that_make_no_sense_are_told(
    broker: KafkaCluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of the setting."""
    monkeypatch.setenv("RUNSTREAM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    with pytest.raises(TransportError, match="RUNSTREAM_KAFKA_SASL_MECHANISM") as refusal:
        await KafkaTransport(_stream(broker.stream(topic))).open()
    assert not refusal.value.may_retry
