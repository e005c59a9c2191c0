"""A topic as the brokers have it: found, or made if that is allowed, and the largest message that it takes."""

import asyncio
from typing import Any, Final, NamedTuple

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from runstream.shipping.transport import TransportError
from runstream_schemas.kafka import Connection, causes_kept
from runstream_schemas.kafka_settings import KAFKA_CREATE_TOPIC, KAFKA_PARTITIONS, KAFKA_REPLICATION
from runstream_schemas.streams import KafkaStream

__all__ = ["Topic", "find_topic"]

_REQUEST: Final = 10_000
"""Milliseconds that a request may take."""
_PAUSE: Final = 0.05
_USUAL_LIMIT: Final = 1_000_000
"""Bytes of a message that a topic takes unless somebody has lowered its limit."""
_TOPIC_RESOURCE: Final = 2
_NO_ERROR, _UNKNOWN_TOPIC, _NO_LEADER, _ALREADY_THERE = 0, 3, 5, 36
_REFUSALS: Final = frozenset({29, 31})
"""Codes for what the user may not do: with this topic, with the cluster."""


class Topic(NamedTuple):
    """What matters about a topic."""

    max_message_bytes: int
    is_known: bool
    """Whether the topic has said so; else it is what topics usually take."""


async def find_topic(settings: Connection, stream: KafkaStream) -> Topic:
    """Find the topic of a stream, or make it if the settings allow that.

    Raises `TransportError`, and whatever aiokafka raises.  The caller sets the deadline.
    """
    client = AIOKafkaClient(**settings.arguments(), request_timeout_ms=_REQUEST)
    try:
        with causes_kept():
            await client.bootstrap()
        if not await _is_there(client, stream):
            await _create(client, stream)
            while not await _is_there(client, stream):  # noqa: ASYNC110 - it is the brokers who know
                await asyncio.sleep(_PAUSE)
        return await _describe(client, stream)
    finally:
        await client.close()


async def _is_there(client: AIOKafkaClient, stream: KafkaStream) -> bool:
    """Asked in such a way that no broker makes the topic by itself, with settings that nobody chose."""
    response = await _ask(client, MetadataRequest([stream.topic], allow_auto_topic_creation=False))
    code = next(topic[0] for topic in response.topics if topic[1] == stream.topic)
    if code == _UNKNOWN_TOPIC:
        return False
    if code not in {_NO_ERROR, _NO_LEADER}:
        raise for_code(code)(stream.topic)
    return True


async def _create(client: AIOKafkaClient, stream: KafkaStream) -> None:
    """Make the topic; it does not matter if somebody else is faster."""
    if KAFKA_CREATE_TOPIC.get() != "yes":
        raise _missing(stream, "RUNSTREAM_KAFKA_CREATE_TOPIC forbids to create it")
    partitions, replication = KAFKA_PARTITIONS.get() or -1, KAFKA_REPLICATION.get() or -1
    wanted: Any = (stream.topic, partitions, replication, [], [])
    response = await _ask(client, CreateTopicsRequest([wanted], _REQUEST, validate_only=False))
    code, message = response.topic_errors[0][1:3]
    if code in _REFUSALS:
        raise _missing(stream, "the user may not create it")
    if code not in {_NO_ERROR, _ALREADY_THERE}:
        raise for_code(code)(message)


def _missing(stream: KafkaStream, why: str) -> TransportError:
    return TransportError(
        f"there is no topic {stream.topic} at {', '.join(stream.servers)}, and {why}; create it: kafka-topics.sh "
        f"--bootstrap-server {stream.servers[0]} --create --topic {stream.topic} --partitions 6",
        may_retry=False,
    )


async def _describe(client: AIOKafkaClient, stream: KafkaStream) -> Topic:
    resources = [(_TOPIC_RESOURCE, stream.topic, ["max.message.bytes"])]
    response = await _ask(client, DescribeConfigsRequest(resources))
    code, _, _, _, entries = response.resources[0][:5]
    if code or not entries:
        return Topic(_USUAL_LIMIT, is_known=False)
    return Topic(int(entries[0][1]), is_known=True)


async def _ask(client: AIOKafkaClient, request: Any) -> Any:
    return await client.send(client.get_random_node(), request)
