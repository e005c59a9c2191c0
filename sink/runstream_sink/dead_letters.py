"""Retrying dead letters: the raw events are applied again, under their old identities.

A letter whose event can now be applied is marked as retried, in the transaction that applies it; one whose event still
cannot stays dead, with the new reason.  A letter that was retried is never applied again.  Damaged bytes that a journal
held in place of an event (``corrupt``, ``torn``) are no event, and are left alone.  A record batch of a topic whose
payload was missing, or that no version could decode before, is decoded anew; what it holds is applied under the
identities in it.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from runstream_schemas.batch import Batch, Fetch
from runstream_schemas.delivery import Delivery
from runstream_sink.apply import apply
from runstream_sink.artifacts import ArtifactStore
from runstream_sink.changes import Changes
from runstream_sink.consumer import Consumer
from runstream_sink.isolation import may_be_of_an_event
from runstream_sink.query.operations import get_dead_letter, list_dead_letters
from runstream_sink.query.records import DeadLetterRecord
from runstream_sink.store.protocol import Store, StoreReader
from runstream_sink.unreadable import batch_in

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
    store: Store,
    reader: StoreReader,
    artifacts: ArtifactStore,
    root: Path,
    numbers: Sequence[int] | None,
    fetch: Fetch = lambda *_: None,
) -> list[Outcome]:
    """Apply letters again: those with these ids, or all that were not retried.

    ``store`` is open; ``root`` is where its tables lie; ``fetch`` gives payloads that batches refer to.  Returns what
    became of each, by id.  Raises `NotFoundError`, before anything is applied, for an id that is none.
    """
    consumer = Consumer(_Letters(), store, artifacts, root)
    if numbers is None:
        numbers = [letter.id async for page in all_dead_letters(reader) for letter in page]
    sizes = {number: (await get_dead_letter(reader, number)).size for number in dict.fromkeys(numbers)}
    outcomes: list[Outcome] = []
    for group in _groups(sizes):
        letters = [await get_dead_letter(reader, number) for number in group]
        outcomes += await _apply(consumer, store, letters, fetch)
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


async def _apply(consumer: Consumer, store: Store, letters: Sequence[DeadLetterRecord], fetch: Fetch) -> list[Outcome]:
    refused = {letter.id: why for letter in letters if (why := _refusal(letter))}
    accepted = [letter for letter in letters if letter.id not in refused]
    still: dict[tuple[str, int], str] = {}
    if accepted:
        changes = await _changes(store, accepted, fetch)
        try:
            await consumer.commit(changes, Delivery(), tuple(map(_identity, accepted)))
        except Exception as error:
            if not may_be_of_an_event(error):
                raise
            if len(letters) > 1:
                return [outcome for letter in letters for outcome in await _apply(consumer, store, [letter], fetch)]
            return [Outcome(letters[0].id, applied=False, detail=repr(error))]
        still = {(dead.producer_id.hex(), dead.seq): f"{dead.reason}: {dead.detail}" for dead in changes.dead}
    reasons = [refused.get(letter.id) or still.get((letter.producer_id, letter.seq), "") for letter in letters]
    return [
        Outcome(letter.id, applied=not reason, detail=reason) for letter, reason in zip(letters, reasons, strict=True)
    ]


async def _changes(store: Store, letters: Sequence[DeadLetterRecord], fetch: Fetch) -> Changes:
    """What letters change: the store has seen their events, and perhaps not those of batches that they hold."""
    events = sorted(((_identity(letter), letter) for letter in letters), key=lambda event: event[0])
    own = {producer_id for (producer_id, _), _ in events}
    batches = []
    for (producer_id, seq), letter in events:
        held = batch_in(letter.raw, fetch)
        batches.append(held or Batch(producer_id, [(seq, letter.emit_ts, letter.raw)], []))
    foreign = {batch.producer_id for batch in batches} - own
    changes = apply(batches, await store.seen(foreign))
    changes.seen = {producer_id: seen for producer_id, seen in changes.seen.items() if producer_id in foreign}
    return changes


def _identity(letter: DeadLetterRecord) -> tuple[bytes, int]:
    return bytes.fromhex(letter.producer_id), letter.seq


def _refusal(letter: DeadLetterRecord) -> str:
    if letter.reason in DAMAGE:
        return "damaged bytes of a journal, which are no event"
    return "it was retried before" if letter.retried is not None else ""
