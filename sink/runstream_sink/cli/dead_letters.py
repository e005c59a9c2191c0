"""``runstream dlq``: what could not be decoded or applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from runstream_schemas.errors import CorruptDataError, InvalidInputError
from runstream_schemas.events import decode_event
from runstream_sink.cli import output
from runstream_sink.cli.exits import Exit
from runstream_sink.cli.options import (
    ArtifactsOption,
    JsonOption,
    StoreOption,
    StreamOption,
    opened,
    resolve,
    wait_for,
)
from runstream_sink.config import Options

if TYPE_CHECKING:
    from runstream_sink.query.records import DeadLetterRecord

__all__ = ["list_", "retry", "show"]

_SHOWN: Any = 512
"""Bytes of a letter that are shown to people."""


def list_(
    store: StoreOption = None,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="REASON", help="Only those with this reason.")
    ] = None,
    retried: Annotated[bool, typer.Option("--retried", help="Also those that were retried.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The most letters to list.")] = 1000,
    json: JsonOption = False,
) -> int:
    """List dead letters: events that could not be decoded or applied."""
    letters = wait_for(_list(resolve(store=store), reason, retried, limit))
    if json:
        output.print_json([_document(letter) for letter in letters])
    else:
        output.print_table(("id", "producer", "seq", "reason", "detail", "size", "came", "retried"), map(_row, letters))
    return Exit.OK


def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="The letter's id.")],
    store: StoreOption = None,
    json: JsonOption = False,
) -> int:
    """Show one dead letter with its bytes, and the event in them if they are one."""
    letter = wait_for(_get(resolve(store=store), number))
    if json:
        output.print_json({**_document(letter), "raw": letter.raw, "event": _event(letter)})
        return Exit.OK
    raw = letter.raw[:_SHOWN].hex(" ")
    fields = {**_document(letter), "event": _event(letter), "raw": raw + (" ..." if letter.size > _SHOWN else "")}
    output.print_table(("", ""), list(fields.items()))
    return Exit.OK


def retry(
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[ID...]", help="Ids of letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that were not retried.")] = False,
    stream: StreamOption = None,
    store: StoreOption = None,
    artifacts: ArtifactsOption = None,
    json: JsonOption = False,
) -> int:
    """Apply dead letters again, as after an upgrade; no sink may run.  The exit code is 1 if any stays dead.

    The stream is where the bytes of artifacts are looked for.
    """
    from runstream_sink.logging import set_up

    if bool(numbers) == every:
        raise InvalidInputError("name the letters to retry, or say --all")
    options = resolve(stream=stream, store=store, artifacts=artifacts)
    set_up(options.log_level, options.log_format)
    outcomes = wait_for(_retry(options, None if every else numbers))
    if json:
        output.print_json(outcomes)
    else:
        rows = [(outcome.id, "applied" if outcome.applied else "still dead", outcome.detail) for outcome in outcomes]
        output.print_table(("id", "outcome", "detail"), rows)
    return Exit.OK if all(outcome.applied for outcome in outcomes) else Exit.WRONG


async def _list(options: Options, reason: str | None, retried: bool, limit: int) -> list[DeadLetterRecord]:
    from runstream_sink.query.operations import list_dead_letters

    async with opened(options) as reader:
        return await list_dead_letters(reader, reason=reason, retried=retried, limit=limit)


async def _get(options: Options, number: int) -> DeadLetterRecord:
    from runstream_sink.query.operations import get_dead_letter

    async with opened(options) as reader:
        return await get_dead_letter(reader, number)


async def _retry(options: Options, numbers: list[int] | None) -> list[Any]:
    from runstream_sink.artifacts import LocalArtifacts
    from runstream_sink.dead_letters import retry as apply_again
    from runstream_sink.kafka.chunks import ChunkStore
    from runstream_sink.store.sqlite import SqliteStore

    async with opened(options) as reader:
        store = SqliteStore(options.store)
        await store.open()
        try:
            artifacts = LocalArtifacts(options.artifacts, options.staging)
            fetch = ChunkStore(options.staging).read
            return list(await apply_again(store, reader, artifacts, options.artifacts, numbers, fetch))
        finally:
            await store.close()


def _document(letter: DeadLetterRecord) -> dict[str, Any]:
    fields = ("id", "producer_id", "seq", "emit_ts", "reason", "detail", "size", "at", "retried")
    return {name: getattr(letter, name) for name in fields}


def _row(letter: DeadLetterRecord) -> tuple[Any, ...]:
    return (
        *(letter.id, letter.producer_id, letter.seq, letter.reason, letter.detail),
        *(output.size(letter.size), output.time_of(letter.at), output.time_of(letter.retried)),
    )


def _event(letter: DeadLetterRecord) -> str | None:
    """The event in a letter's bytes, as text."""
    try:
        return repr(decode_event(letter.raw))
    except CorruptDataError:
        pass
    try:
        return repr(msgspec.msgpack.decode(letter.raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
