"""What the database says, against itself."""

from collections.abc import Callable
from contextlib import aclosing
from itertools import groupby
from typing import Final

from runstream_schemas.follower import parse_position
from runstream_sink.changes import origin_of
from runstream_sink.dead_letters import DAMAGE
from runstream_sink.intervals import IntervalSet
from runstream_sink.query.operations import list_losses, list_positions
from runstream_sink.store.points import bits_of, value_of
from runstream_sink.store.protocol import Row, StoreReader
from runstream_sink.verify.report import Collector

__all__ = ["Seen", "check_facts", "check_metrics", "check_seen", "read_seen"]

_ORDER_SIZE: Final = 32

Seen = dict[str, IntervalSet]
"""By producer, in hexadecimal."""

_Rule = tuple[str, str, Callable[[Row], tuple[str, str]]]

_RULES: Final[tuple[_Rule, ...]] = (
    ("table_column", "verify_part_columns", lambda row: (row[0], f"its column {row[1]!r:.200} is none of the table's")),
    ("file_shared", "verify_shared_files", lambda row: (row[0], "several artifacts or parts name this file")),
    (
        "latest_metric",
        "verify_without_latest",
        lambda row: (f"run {row[0]}", f"metric {row[1]!r:.250} has points and no latest one"),
    ),
    (
        "unseen",
        "verify_metrics_seen",
        lambda row: (f"producer {row[0]}", f"{row[1]} metric points of events never seen, the first is {row[2]}"),
    ),
)
"""Kind, query, and what a row of it says: subject and detail."""


async def check_facts(reader: StoreReader, collector: Collector) -> None:
    """Structure: pages and indices, references, tables and parts, files."""
    for (message,) in await reader.fetch("verify_integrity"):
        if message != "ok":
            collector.add("database", reader.location.text, message)
    for table, column, count, example in await reader.fetch("verify_references"):
        if count:
            collector.add("reference", f"table {table}", f"{column}: {count} have no row, such as {example}")
    async with aclosing(reader.stream("verify_tables")) as pages:
        async for rows in pages:
            for row in rows:
                _check_table(collector, row)
    for kind, query, tell in _RULES:
        async with aclosing(reader.stream(query)) as pages:
            async for rows in pages:
                for row in rows:
                    collector.add(kind, *tell(row))


def _check_table(collector: Collector, row: Row) -> None:
    run_id, name, rows, rows_of_parts, parts, greatest, open_parts = row
    subject = f"run {run_id}"
    if rows != rows_of_parts:
        collector.add("table_rows", subject, f"table {name!r:.200} has {rows} rows, its parts have {rows_of_parts}")
    if parts < greatest or open_parts > 1:
        detail = f"table {name!r:.200} has {parts} parts, the greatest number is {greatest}, {open_parts} are open"
        collector.add("table_parts", subject, detail)


async def check_metrics(reader: StoreReader, collector: Collector) -> None:
    """No point twice, none missing in the middle, and the latest one is the latest."""
    async with aclosing(reader.stream("verify_metric_events")) as pages:
        async for rows in pages:
            for producer, seq, points, numbered in rows:
                kind = "metric_missing" if points < numbered else "metric_twice"
                detail = f"event {seq} has {points} points, numbered up to {numbered - 1}"
                collector.add(kind, f"producer {producer}", detail)
    last: list[Row] = []
    async with aclosing(reader.stream("verify_latest")) as pages:
        async for rows in pages:
            groups = [list(group) for _, group in groupby([*last, *rows], key=lambda row: row[:2])]
            last = groups.pop()
            for group in groups:
                _check_latest(collector, group)
    if last:
        _check_latest(collector, last)


def _check_latest(collector: Collector, rows: list[Row]) -> None:
    """``rows``: one latest metric beside each of its last points."""
    _, _, run_id, key, step, timestamp, value, bits, identity = rows[0][:9]
    held = (step, timestamp, bits_of(value_of(value, bits)), identity)
    points = [_ranked(row[9:]) for row in rows if row[9] is not None and row[13] is not None]
    greatest = max(points, default=None)
    if greatest is None:
        collector.add("latest_metric", f"run {run_id}", f"metric {key!r:.250} has a latest point and no points")
    elif held != (greatest[0], greatest[1], greatest[5], greatest[4]):
        found = f"{greatest[6]!r} at step {greatest[0]}, time {greatest[1]}"
        told = f"{value_of(value, bits)!r} at step {step}, time {timestamp}"
        detail = f"metric {key!r:.250}: the latest is {found}; the store says {told}"
        collector.add("latest_metric", f"run {run_id}", detail)


def _ranked(row: Row) -> tuple[int, int, bool, float, bytes, int, float]:
    """A point so that the greatest is the latest: step, timestamp, value with NaN lowest, identity."""
    step, timestamp, value, bits, producer_id, seq, index = row
    exact = value_of(value, bits)
    number = exact == exact  # noqa: PLR0124 - NaN differs from itself
    identity = producer_id + seq.to_bytes(8, "big") + index.to_bytes(4, "big")
    return step, timestamp, number, exact if number else 0.0, identity, bits_of(exact), exact


async def read_seen(reader: StoreReader, collector: Collector) -> Seen:
    """What was seen, by producer; overlapping intervals and gaps are findings."""
    seen: Seen = {}
    expected: dict[str, int] = {}
    async with aclosing(reader.stream("all_seen")) as pages:
        async for rows in pages:
            for producer_id, first, last in rows:
                producer = producer_id.hex()
                before = expected.get(producer, 0)
                if first < before:
                    collector.add(
                        "seen_overlap", f"producer {producer}", f"events {first} to {before - 1} are seen twice"
                    )
                elif first > before:
                    detail = f"events {before} to {first - 1} ({first - before}) are missing, later ones were applied"
                    collector.add("seen_gap", f"producer {producer}", detail)
                seen.setdefault(producer, IntervalSet()).add(first, max(first, last))
                expected = {producer: max(last + 1, before)}  # rows come producer by producer
    return seen


async def check_seen(reader: StoreReader, collector: Collector, seen: Seen) -> None:
    """Facts come from events that were seen; positions, holes and dead letters fit; losses are told."""
    await _check_orders(reader, collector, seen)
    for held in await list_positions(reader):
        if held.stream.startswith("queue:"):
            _check_position(collector, held.part, parse_position(held.position).next_seq, seen)
    async with aclosing(reader.stream("verify_incidents")) as pages:
        async for rows in pages:
            for row in rows:
                _check_incident(collector, row, seen)
    for loss in await list_losses(reader):
        detail = f"{loss.count} events were dropped: {loss.reason} (segment {loss.segment})"
        collector.know("dropped", f"producer {loss.producer_id}", detail, loss.count)


async def _check_orders(reader: StoreReader, collector: Collector, seen: Seen) -> None:
    async with aclosing(reader.stream("verify_orders")) as pages:
        async for rows in pages:
            for what, order in rows:
                _check_order(collector, what, order, seen, reader.location.text)


def _check_order(collector: Collector, what: str, order: bytes, seen: Seen, store: str) -> None:
    if len(order) != _ORDER_SIZE:
        collector.add("database", store, f"the order of a {what} has {len(order)} bytes, not {_ORDER_SIZE}")
        return
    _, producer_id, seq = origin_of(order)
    if not _holds(seen, producer_id.hex(), seq, seq):
        collector.add("unseen", f"producer {producer_id.hex()}", f"a {what} comes from event {seq}, never seen")


def _check_position(collector: Collector, journal: str, next_seq: int, seen: Seen) -> None:
    """All events before a position were seen; gaps before the last one are findings of their own."""
    if next_seq <= 0:
        return
    producer = journal.partition("-")[0]  # the rest tells a continuation from others
    last = max((last for _, last in seen.get(producer, ())), default=-1)
    if last < next_seq - 1:
        detail = f"the stream was read up to event {next_seq - 1}, the last that was seen is {last}"
        collector.add("position", f"producer {journal}", detail)


def _check_incident(collector: Collector, row: Row, seen: Seen) -> None:
    what, producer_id, first, last, reason, retried = row
    producer = producer_id.hex()
    if not _holds(seen, producer, first, last):
        collector.add("unseen", f"producer {producer}", f"a {what} stands for events {first} to {last}, never seen")
    detail = f"events {first} to {last}: {reason}"
    if what == "hole" and reason in DAMAGE:
        collector.add("hole", f"producer {producer}", f"{detail}; bytes of the journal are damaged")
    elif what == "hole":
        collector.know(reason, f"producer {producer}", f"{detail}; their calls never returned", last - first + 1)
    elif retried is None and reason not in DAMAGE:
        collector.know("dead_letter", f"producer {producer}", f"event {first}: {reason}; see `runstream dlq list`", 1)


def _holds(seen: Seen, producer: str, first: int, last: int) -> bool:
    intervals = seen.get(producer)
    return intervals is not None and not intervals.missing(first, last)
