"""Finding the event that keeps a delivery from being written, so that it alone is left out.

Applying checks each event; that one fails where it is written is a mistake of ours, or a limit that only the store
knows (of a table's width, a file name's length).  The delivery is then applied in halves, and their halves, until what
fails is one event.  It becomes a dead letter; everything else is in the store.
"""

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from runstream_schemas.batch import Batch
from runstream_schemas.errors import InvalidInputError, RunstreamError
from runstream_sink.changes import Changes, DeadLetter

__all__ = ["apply_apart", "may_be_of_an_event"]

_OF_A_NAME: Final = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP})
"""Errors that waiting does not change, of one file rather than of the disk."""


def may_be_of_an_event(error: Exception) -> bool:
    """Whether what was to be written may have caused an error, rather than the disk, the database or another sink."""
    if isinstance(error, OSError):
        return error.errno in _OF_A_NAME
    return isinstance(error, InvalidInputError) or not isinstance(error, RunstreamError)


async def apply_apart(
    batches: Sequence[Batch],
    error: Exception,
    apply: Callable[[Sequence[Batch]], Awaitable[Changes]],
    commit: Callable[[Changes], Awaitable[None]],
) -> list[Changes]:
    """Commit what can be committed of ``batches``, which failed together with ``error``; what was committed.

    Raises what commits raise for other reasons, and for a dead letter.
    """
    if not batches:
        raise error
    if len(batches) == 1 and len(batches[0].records) <= 1 and not (batches[0].records and batches[0].holes):
        buried = _buried(batches[0], error, await apply(batches))
        await commit(buried)
        return [buried]
    done: list[Changes] = []
    for half in _halves(batches):
        changes = await apply(half)
        try:
            await commit(changes)
        except Exception as reason:
            if not may_be_of_an_event(reason):
                raise
            done += await apply_apart(half, reason, apply, commit)
        else:
            done.append(changes)
    return done


def _halves(batches: Sequence[Batch]) -> tuple[Sequence[Batch], Sequence[Batch]]:
    middle = len(batches) // 2
    if middle:
        return batches[:middle], batches[middle:]
    (producer_id, records, holes), middle = batches[0], (len(batches[0].records) + 1) // 2
    return [Batch(producer_id, records[:middle], [])], [Batch(producer_id, records[middle:], holes)]


def _buried(batch: Batch, error: Exception, changes: Changes) -> Changes:
    """The changes of one event that fails: it is seen, and dead.  Holes can be written, or nothing can."""
    if not batch.records or not changes.events:
        raise error
    seq, emit_ts, body = batch.records[0]
    reason = "invalid" if isinstance(error, InvalidInputError) else "failed"
    detail = str(error) if isinstance(error, RunstreamError) else f"{type(error).__name__}: {error}"
    letter = DeadLetter(batch.producer_id, seq, emit_ts, reason, detail, body)
    return Changes(events=1, seen=changes.seen, dead=[letter])
