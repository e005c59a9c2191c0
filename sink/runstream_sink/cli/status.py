"""``runstream status``."""

from __future__ import annotations

import time
from typing import Any

from runstream_schemas.streams import KafkaStream
from runstream_sink.cli import output
from runstream_sink.cli.kafka_status import print_kafka, read_kafka
from runstream_sink.cli.losses import fields, greatest, losses_by_journal
from runstream_sink.cli.options import JsonOption, StoreOption, StreamOption, opened, resolve, wait_for
from runstream_sink.config import Options

__all__ = ["status"]


def status(stream: StreamOption = None, store: StoreOption = None, json: JsonOption = False) -> int:
    """Show journals, backlog, consumers, losses and dead letters; no sink need run.

    The backlog is what the journals hold and the store has not applied.  Without a store everything is backlog.  Of a
    topic, what the store has not read is shown by partition, and as backlog what no broker has acknowledged.
    """
    options = resolve(stream=stream, store=store)
    if isinstance(options.stream, KafkaStream):
        found = wait_for(read_kafka(options, options.stream))
        show = print_kafka
    else:
        found = wait_for(_read(options))
        show = _print
    if json:
        output.print_json(found)
    else:
        show(found)
    return 0


async def _read(options: Options) -> dict[str, Any]:
    """Everything that is shown, as one document."""
    from runstream_schemas.journal_status import read_stream_status, stream_name
    from runstream_sink.status import read_store_status

    held = None
    if options.store.database.exists():
        async with opened(options) as reader:
            held = await read_store_status(reader, stream_name(options.queue))
    stream = read_stream_status(options.queue, held.positions if held else {})
    now = time.time_ns()
    behind = stream.backlog
    return {
        "stream": stream.stream,
        "journals": len(stream.journals),
        "living": sum(journal.living for journal in stream.journals),
        "bytes": sum(journal.bytes for journal in stream.journals),
        "backlog_events": behind.events,
        "backlog_bytes": behind.bytes,
        "oldest_age_seconds": None if behind.oldest is None else max((now - behind.oldest) / 1e9, 0.0),
        "store": options.store.text if held else None,
        "store_id": held.store_id if held else None,
        "sink": held.sink if held else None,
        "consumers": [
            {**fields(consumer), "this_store": held is not None and consumer.store_id == held.store_id}
            for consumer in stream.consumers
        ],
        "losses": [fields(loss) for loss in greatest([*stream.losses, *(held.losses if held else [])])],
        "dead_letters": held.dead_letters if held else {},
        "by_journal": [fields(journal) for journal in stream.journals],
    }


def _print(found: dict[str, Any]) -> None:
    output.lines(_summary(found))
    behind = [journal for journal in found["by_journal"] if journal["living"] or journal["backlog_events"]]
    if behind:
        output.lines([""])
        output.print_table(("journal", "writer", "on disk", "backlog", "in bytes", "oldest"), map(_journal_row, behind))
    if found["consumers"]:
        output.lines([""])
        rows = map(_consumer_row, found["consumers"])
        output.print_table(("consumer", "segments kept", "in bytes", "last acknowledged"), rows)
    if found["losses"]:
        output.lines([""])
        output.print_table(("lost by journal", "reason", "events"), losses_by_journal(found["losses"]))
    if found["dead_letters"]:
        output.lines([""])
        output.print_table(("dead letters", "events"), sorted(found["dead_letters"].items()))


def _summary(found: dict[str, Any]) -> list[str]:
    store = found["store"]
    sink = f"running, process {found['sink']}" if found["sink"] else "not running"
    lost = sum(loss["count"] for loss in found["losses"])
    dead = found["journals"] - found["living"]
    age = output.duration(found["oldest_age_seconds"])
    return [
        f"stream   {found['stream']}",
        f"store    {store}" if store else "store    none yet",
        f"sink     {sink}",
        f"journals {found['living']} living, {dead} dead, {output.size(found['bytes'])}",
        f"backlog  {found['backlog_events']} events, {output.size(found['backlog_bytes'])}, oldest {age}",
        f"lost     {lost} events",
        f"dead     {sum(found['dead_letters'].values())} letters",
    ]


def _journal_row(journal: dict[str, Any]) -> tuple[Any, ...]:
    return (
        journal["journal"],
        "living" if journal["living"] else "dead",
        output.size(journal["bytes"]),
        journal["backlog_events"],
        output.size(journal["backlog_bytes"]),
        output.time_of(None if journal["oldest"] is None else journal["oldest"] // 1_000_000),
    )


def _consumer_row(consumer: dict[str, Any]) -> tuple[Any, ...]:
    name = consumer["store_id"] + (" (this store)" if consumer["this_store"] else "")
    size = output.size(consumer["bytes_behind"])
    return name, consumer["segments_behind"], size, output.time_of(consumer["acknowledged"])
