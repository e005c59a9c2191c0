"""``runstream status``."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from runstream_sink.cli import output
from runstream_sink.cli.options import JsonOption, StoreOption, StreamOption, opened, resolve, wait_for
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_schemas.journal_status import Loss

__all__ = ["status"]


def status(stream: StreamOption = None, store: StoreOption = None, json: JsonOption = False) -> int:
    """Show journals, backlog, consumers, losses and dead letters; no sink need run.

    The backlog is what the journals hold and the store has not applied.  Without a store everything is backlog.
    """
    found = wait_for(_read(resolve(stream=stream, store=store)))
    if json:
        output.print_json(found)
    else:
        _print(found)
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
            {**_fields(consumer), "this_store": held is not None and consumer.store_id == held.store_id}
            for consumer in stream.consumers
        ],
        "losses": [_fields(loss) for loss in _greatest([*stream.losses, *(held.losses if held else [])])],
        "dead_letters": held.dead_letters if held else {},
        "by_journal": [_fields(journal) for journal in stream.journals],
    }


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _greatest(losses: list[Loss]) -> list[Loss]:
    """Of several counts for one segment and reason the greatest holds."""
    held: dict[tuple[str, int, str], Loss] = {}
    for loss in losses:
        key = (loss.producer_id, loss.segment, loss.reason)
        if key not in held or held[key].count < loss.count:
            held[key] = loss
    return [held[key] for key in sorted(held)]


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
        output.print_table(("lost by journal", "reason", "events"), _losses_by_journal(found["losses"]))
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


def _losses_by_journal(losses: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    sums: Counter[tuple[str, str]] = Counter()
    for loss in losses:
        sums[loss["producer_id"], loss["reason"]] += loss["count"]
    return [(*key, count) for key, count in sums.items()]
