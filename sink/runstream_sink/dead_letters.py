"""Retrying dead letters: the raw events are applied again, under their old identities.

A letter whose event can now be applied is marked as retried, in the transaction that applies it; one whose event still
cannot stays dead, with the new reason.  A letter that was retried is never applied again.  Damaged bytes that a journal
held in place of an event (``corrupt``, ``torn``) are no event, and are left alone.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from msgspec import Struct

from runstream_schemas.batch import Batch
from runstream_schemas.delivery import Delivery
from runstream_schemas.segment import Record
from runstream_sink.apply import apply
from runstream_sink.artifacts import ArtifactStore
from runstream_sink.consumer import Consumer
from runstream_sink.isolation import may_be_of_an_event
from runstream_sink.query.operations import get_dead_letter, list_dead_letters
from runstream_sink.query.records import DeadLetterRecord
from runstream_sink.store.protocol import Store, StoreReader

__all__ = ["DAMAGE", "Outcome", "all_dead_letters", "retry"]

DAMAGE: Final = frozenset({"corrupt", "torn"})
"""Reasons of letters that hold no event."""
_PAGE: Final = 1000
_COMMIT: Final = 8 << 20
"""Bytes of events in one transaction."""


class Outcome(Struct, frozen=True):
    """What became of one letter."""

    id: int
    applied: bool
    detail: str
    """Why it was not applied; empty if it was."""


class _Letters:
    """A source that hands nothing out: what is applied comes from the store itself, so there is no position to move."""

    name = ""

    async def open(self, consumer: str) -> None:
        """Nothing to connect to."""

    async def read(self, _limit: int) -> Delivery:
        """Nothing new."""
        return Delivery()

    async def make_durable(self) -> None:
        """The letters are durable."""

    async def seek(self, positions: dict[str, str]) -> None:
        """There is only one place."""

    async def committed(self, delivery: Delivery) -> None:
        """Nothing to free."""

    def backlog(self) -> bool:
        """Nothing is left behind."""
        return False

    async def close(self) -> None:
        """Nothing to let go of."""


async def all_dead_letters(
    reader: StoreReader, *, reason: str | None = None, retried: bool = False
) -> AsyncIterator[list[DeadLetterRecord]]:
    """All dead letters without their bytes, in pages, by ascending id."""
    after = 0
    while page := await list_dead_letters(reader, reason=reason, retried=retried, after=after, limit=_PAGE):
        yield page
        after = page[-1].id


async def retry(
    store: Store, reader: StoreReader, artifacts: ArtifactStore, root: Path, numbers: Sequence[int] | None
) -> list[Outcome]:
    """Apply letters again: those with these ids, or all that were not retried.

    ``store`` is open; ``root`` is where its tables lie.  Returns what became of each, by id.  Raises `NotFoundError`,
    before anything is applied, for an id that is none.
    """
    consumer = Consumer(_Letters(), store, artifacts, root)
    if numbers is None:
        numbers = [letter.id async for page in all_dead_letters(reader) for letter in page]
    sizes = {number: (await get_dead_letter(reader, number)).size for number in dict.fromkeys(numbers)}
    outcomes: list[Outcome] = []
    for group in _groups(sizes):
        letters = [await get_dead_letter(reader, number) for number in group]
        outcomes += await _apply(consumer, letters)
    return sorted(outcomes, key=lambda outcome: outcome.id)


def _groups(sizes: dict[int, int]) -> Iterable[list[int]]:
    """The ids in lists, one a transaction."""
    group: list[int] = []
    total = 0
    for number, size in sizes.items():
        if group and total + size > _COMMIT:
            yield group
            group, total = [], 0
        group.append(number)
        total += size
    if group:
        yield group


async def _apply(consumer: Consumer, letters: Sequence[DeadLetterRecord]) -> list[Outcome]:
    refused = {letter.id: why for letter in letters if (why := _refusal(letter))}
    events = sorted(
        (bytes.fromhex(letter.producer_id), Record(letter.seq, letter.emit_ts, letter.raw))
        for letter in letters
        if letter.id not in refused
    )
    still: dict[tuple[str, int], str] = {}
    if events:
        batches = [
            Batch(producer_id, [record for _, record in group], [])
            for producer_id, group in groupby(events, key=lambda event: event[0])
        ]
        changes = apply(batches, {})
        changes.seen = {}  # the store has seen these events
        try:
            await consumer.commit(changes, Delivery(), tuple((p, record.seq) for p, record in events))
        except Exception as error:
            if not may_be_of_an_event(error):
                raise
            if len(letters) > 1:
                return [outcome for letter in letters for outcome in await _apply(consumer, [letter])]
            return [Outcome(letters[0].id, applied=False, detail=repr(error))]
        still = {(dead.producer_id.hex(), dead.seq): f"{dead.reason}: {dead.detail}" for dead in changes.dead}
    reasons = [refused.get(letter.id) or still.get((letter.producer_id, letter.seq), "") for letter in letters]
    return [
        Outcome(letter.id, applied=not reason, detail=reason) for letter, reason in zip(letters, reasons, strict=True)
    ]


def _refusal(letter: DeadLetterRecord) -> str:
    if letter.reason in DAMAGE:
        return "damaged bytes of a journal, which are no event"
    return "it was retried before" if letter.retried is not None else ""
