"""What tests do to topics, consumer groups and access rights of a Kafka cluster.

Each call tries again for a minute while nodes come and go, and returns when every node that runs has heard of the
change, so that a client may be sent to any of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

__all__ = ["Admin", "Administration", "NotYetError", "read_topic"]

_T = TypeVar("_T")
_DEADLINE = 60
_REQUEST_TIMEOUT_MS = 5_000


class NotYetError(KafkaError):  # type: ignore[misc]
    """Not every node has heard of it."""

    retriable = True


class Admin(AIOKafkaAdminClient):  # type: ignore[misc]
    """aiokafka's admin client, which can also ask one certain node."""

    async def ask(self, node: int, request: object) -> Any:
        """The answer of one node."""
        return await self._send_request_to_node(node, request)

    async def ask_controller(self, request: object) -> Any:
        """The answer of whoever decides."""
        return await self._send_to_controller(request)

    async def partitions(self, node: int, topic: str) -> list[dict[str, Any]]:
        """What one node knows of a topic's partitions: partition, leader, replicas, isr; none for an unknown topic."""
        answer = await self.ask(node, MetadataRequest([topic], allow_auto_topic_creation=False))
        found = answer.to_object()["topics"][0]
        return sorted(found["partitions"], key=lambda partition: partition["partition"])

    async def members(self, node: int) -> set[int]:
        """The nodes that one node takes for living."""
        answer = await self.ask(node, MetadataRequest([]))
        return {broker["node_id"] for broker in answer.to_object()["brokers"]}


class Administration:
    """The part of a cluster that talks to it; needs `bootstrap` and `living`."""

    @property
    def bootstrap(self) -> str:
        """Addresses at which everything is allowed to everyone."""
        raise NotImplementedError

    @property
    def living(self) -> set[int]:
        """The numbers of the nodes that run and are not paused."""
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[Admin]:
        """The admin client of aiokafka, for whatever is missing here."""
        client = Admin(bootstrap_servers=self.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await client.start()
            yield client
        finally:
            await client.close()

    async def create_topic(
        self,
        topic: str,
        partitions: int = 1,
        *,
        replication: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic that must not exist; it has a replica on each of up to three nodes unless told otherwise."""
        replicas = replication or min(3, len(self.living))
        wanted = NewTopic(topic, partitions, replicas, topic_configs=dict(config or {}))

        async def create(admin: Admin) -> None:
            for _, code, message in (await admin.create_topics([wanted])).topic_errors:
                _check(code, message)

        await self.insist(create)
        await self._everywhere(topic, lambda found: _led(found) and len(found) == partitions)

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic; it may be created again at once, with nothing in it."""

        async def delete(admin: Admin) -> None:
            for _, code in (await admin.delete_topics([topic])).topic_error_codes:
                _check(code, topic)

        await self.insist(delete)
        await self._everywhere(topic, lambda found: not found)

    async def raise_partitions(self, topic: str, count: int) -> None:
        """Give a topic more partitions: `count` in all."""
        await self.insist(lambda admin: admin.create_partitions({topic: NewPartitions(count)}))
        await self._everywhere(topic, lambda found: len(found) == count and _led(found))

    async def delete_records(self, topic: str, before: int, partition: int = 0) -> None:
        """Delete a partition's records before an offset, as retention would."""
        wanted = {TopicPartition(topic, partition): RecordsToDelete(before)}
        await self.insist(lambda admin: admin.delete_records(wanted))

    async def configure_topic(self, topic: str, config: Mapping[str, str]) -> None:
        """Set a topic's configuration; what was set before and is not named goes back to its default."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(config))

        async def alter(admin: Admin) -> None:
            for answer in await admin.alter_configs([resource]):
                for code, message, *_ in answer.resources:
                    _check(code, message)

        await self.insist(alter)

        async def hear(admin: Admin) -> None:
            for node in self.living:
                if not config.items() <= (await self._configuration(admin, node, topic)).items():
                    raise NotYetError(f"node {node} has not heard of {topic}'s configuration")

        await self.insist(hear)

    async def leader(self, topic: str, partition: int = 0) -> int:
        """The number of the node that leads a partition; one of those that run."""

        async def find(admin: Admin) -> int:
            for node in self.living:
                leader = (await admin.partitions(node, topic))[partition]["leader"]
                if leader in self.living:
                    return int(leader)
            raise NotYetError(f"nobody leads {topic} {partition}")

        return await self.insist(find)

    async def in_sync(self, topic: str) -> None:
        """Wait until all replicas of all partitions are in sync."""
        await self._everywhere(
            topic, lambda found: _led(found) and all(set(p["isr"]) == set(p["replicas"]) for p in found)
        )

    async def committed(self, group: str) -> dict[TopicPartition, int]:
        """The offsets that a consumer group has committed."""
        found = await self.insist(lambda admin: admin.list_consumer_group_offsets(group))
        return {partition: position.offset for partition, position in found.items()}

    async def read(self, topic: str) -> list[ConsumerRecord]:
        """All that a topic holds, by partition and offset."""
        return await self.insist(lambda _: read_topic(self.bootstrap, topic))

    async def agree(self) -> None:
        """Wait until all nodes that run know of each other, and consumer groups can be served."""

        async def hear(admin: Admin) -> None:
            for node in self.living:
                if await admin.members(node) != self.living:
                    raise NotYetError(f"node {node} does not know all others")
            await admin.find_coordinator("any")  # creates the topic of the groups' offsets

        await self._listening()
        await self.insist(hear)

    async def insist(self, action: Callable[[Admin], Awaitable[_T]]) -> _T:
        """What an action returns; it is tried again for a minute while its errors may go away."""
        deadline = asyncio.get_running_loop().time() + _DEADLINE
        while True:
            try:
                async with self.admin() as admin:
                    return await action(admin)
            except (KafkaError, OSError, TimeoutError) as error:
                late = asyncio.get_running_loop().time() > deadline
                if late or (isinstance(error, KafkaError) and not error.retriable):
                    raise
            self.check()
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raise where waiting cannot help."""

    async def _listening(self) -> None:
        # Before aiokafka tries, which would log an error each time.
        async with asyncio.timeout(_DEADLINE):
            for address in self.bootstrap.split(","):
                while not await _accepts(address):
                    self.check()
                    await asyncio.sleep(0.05)

    async def _everywhere(self, topic: str, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        async def hear(admin: Admin) -> None:
            for node in self.living:
                found = await admin.partitions(node, topic)
                if not condition(found):
                    raise NotYetError(f"node {node} knows {topic} as {found}")

        await self.insist(hear)

    async def _configuration(self, admin: Admin, node: int, topic: str) -> dict[str, str]:
        request = DescribeConfigsRequest([(ConfigResourceType.TOPIC, topic, None)])
        ((code, message, _, _, entries),) = (await admin.ask(node, request)).resources
        _check(code, message)
        return {name: value for name, value, *_ in entries}


async def read_topic(bootstrap: str, topic: str, **arguments: Any) -> list[ConsumerRecord]:
    """All that a topic holds now, by partition and offset; further arguments are AIOKafkaConsumer's."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, **arguments
    )
    try:
        await consumer.start()
        partitions = sorted(consumer.assignment())
        if not partitions:
            raise UnknownTopicOrPartitionError(topic)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        for partition in partitions:
            found += await _read_partition(consumer, partition, ends[partition])
        return found
    finally:
        await consumer.stop()


async def _read_partition(consumer: AIOKafkaConsumer, partition: TopicPartition, end: int) -> list[ConsumerRecord]:
    found: list[ConsumerRecord] = []
    async with asyncio.timeout(_DEADLINE):
        while await consumer.position(partition) < end:
            for records in (await consumer.getmany(partition, timeout_ms=200)).values():
                found += [record for record in records if record.offset < end]
    return found


async def _accepts(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


def _led(partitions: list[dict[str, Any]]) -> bool:
    return bool(partitions) and all(partition["leader"] >= 0 for partition in partitions)


def _check(code: int, message: object) -> None:
    if code:
        raise for_code(code)(message)
