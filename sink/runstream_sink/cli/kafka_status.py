"""``runstream status`` where the stream is a topic."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runstream_schemas.settings import JOURNAL_DIR
from runstream_schemas.streams import KafkaStream, journal_directory
from runstream_sink.cli import output
from runstream_sink.cli.losses import fields, greatest, losses_by_journal
from runstream_sink.cli.options import opened
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.kafka.status import JournalsStatus, TopicStatus
    from runstream_sink.store.protocol import StoreReader

__all__ = ["print_kafka", "read_kafka"]

_MOST_LISTED: Final = 20
"""Producers whose missing events people are shown."""
_NO_STORE: Final[dict[str, Any]] = {
    "store": None,
    "store_id": None,
    "sink": None,
    "losses": [],
    "missing": [],
    "dead_letters": {},
}


async def read_kafka(options: Options, stream: KafkaStream) -> dict[str, Any]:
    """Everything that is shown, as one document."""
    from runstream_sink.kafka.opening import kafka_log
    from runstream_sink.kafka.status import read_journals_status, read_topic_status

    log = kafka_log(stream, grouped=False)
    here = read_journals_status(_journals_of(stream))
    if not options.store.database.exists():
        return _document(await read_topic_status(log, stream, None), here, _NO_STORE)
    async with opened(options) as reader:
        return _document(await read_topic_status(log, stream, reader), here, await _held(reader))


def _journals_of(stream: KafkaStream) -> Path:
    return journal_directory(stream, Path(JOURNAL_DIR.get()).expanduser().absolute())


async def _held(reader: "StoreReader") -> dict[str, Any]:
    """What the store says."""
    from runstream_sink.missing import find_missing
    from runstream_sink.status import read_store_status

    held = await read_store_status(reader, "")
    missing = await find_missing(reader)
    return {
        "store": held.store,
        "store_id": held.store_id,
        "sink": held.sink,
        "losses": held.losses,
        "missing": [
            {"producer_id": gap.producer_id.hex(), "events": gap.events, "intervals": gap.intervals} for gap in missing
        ],
        "dead_letters": held.dead_letters,
    }


def _document(topic: "TopicStatus", here: "JournalsStatus", held: dict[str, Any]) -> dict[str, Any]:
    journals = here.journals.journals if here.journals else []
    losses = greatest([*(here.journals.losses if here.journals else []), *held["losses"]])
    return {
        **fields(topic),
        "partitions": [fields(partition) for partition in topic.partitions],
        "lag": None if topic.error else sum(partition.lag for partition in topic.partitions),
        "journal_directory": here.directory,
        "journals": len(journals),
        "living": sum(journal.living for journal in journals),
        "bytes": sum(journal.bytes for journal in journals),
        "backlog_events": sum(journal.backlog_events for journal in journals),
        "backlog_bytes": sum(journal.backlog_bytes for journal in journals),
        "oldest_age_seconds": here.oldest_age,
        "shipper": None if here.shipper is None else fields(here.shipper),
        **held,
        "losses": [fields(loss) for loss in losses],
        "by_journal": [fields(journal) for journal in journals],
    }


def print_kafka(found: dict[str, Any]) -> None:
    """The document, for people."""
    output.lines(_summary(found))
    for title, rows in (
        (("partition", "begin", "end", "position", "lag", "lost"), map(_partition_row, found["partitions"])),
        (("missing of producer", "events", "the first"), map(_missing_row, found["missing"][:_MOST_LISTED])),
        (("lost by journal", "reason", "events"), losses_by_journal(found["losses"])),
        (("dead letters", "events"), sorted(found["dead_letters"].items())),
    ):
        shown = list(rows)
        if shown:
            output.lines([""])
            output.print_table(title, shown)


def _summary(found: dict[str, Any]) -> list[str]:
    age = output.duration(found["oldest_age_seconds"])
    dead = found["journals"] - found["living"]
    missing = sum(gap["events"] for gap in found["missing"])
    return [
        f"stream   {found['stream']}",
        f"brokers  {', '.join(found['brokers'])}",
        f"topic    {found['error'] or _topic(found)}",
        f"store    {found['store'] or 'none yet'}",
        f"sink     {'running, process ' + found['sink'] if found['sink'] else 'not running'}",
        f"journals {found['living']} living, {dead} dead, {output.size(found['bytes'])}",
        f"lie in   {found['journal_directory']}",
        f"unsent   {found['backlog_events']} events, {output.size(found['backlog_bytes'])}, oldest {age}",
        f"shipper  {_shipper(found['shipper'])}",
        f"missing  {missing} events of {len(found['missing'])} producers",
        f"lost     {sum(loss['count'] for loss in found['losses'])} events",
        f"dead     {sum(found['dead_letters'].values())} letters",
    ]


def _topic(found: dict[str, Any]) -> str:
    return f"{found['topic']}, {len(found['partitions'])} partitions, {found['lag']} records behind"


def _shipper(said: dict[str, Any] | None) -> str:
    if said is None:
        return "none yet"
    error = f": {said['error']}" if said["error"] else ""
    since = output.time_of(int(said["since"] * 1000))
    return f"process {said['pid']}, {said['state']} since {since}, {said['shipped']} events shipped{error}"


def _partition_row(partition: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(partition[name] for name in ("partition", "begin", "end", "position", "lag", "lost"))


def _missing_row(gap: dict[str, Any]) -> tuple[Any, ...]:
    first, last = gap["intervals"][0]
    return gap["producer_id"], gap["events"], first if first == last else f"{first} to {last}"
