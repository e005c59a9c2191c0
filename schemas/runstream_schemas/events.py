"""Typed events: what a program logs, as array-like MessagePack.

An event is one MessagePack array ``[tag, field, field, ...]``.  The tag is an integer, listed in ``TAGS``; the fields
stand in the order of the struct's definition.  Rules of evolution:

* fields are only ever appended, each with a default, so that an old reader skips unknown trailing fields and a new
  reader fills missing ones;
* a tag is never used again for something else; a reader dead-letters tags it does not know.

An event does not carry its own identity.  Its envelope does: ``(producer_id, seq)`` identifies it, ``emit_ts``
(nanoseconds since the epoch, strictly increasing within a process) orders it.  See ``segment`` and ``batch``.

Times named ``*_time`` and ``timestamp`` are the user's: milliseconds since the epoch, as in MLflow.
"""

from typing import Any, Final

import msgspec
from msgspec import Struct

from runstream_schemas.errors import CorruptDataError, UnknownEventError
from runstream_schemas.values import decode_extension
from runstream_schemas.weighing import MAX_WEIGHT, is_too_heavy

__all__ = [
    "RUN_STATUSES",
    "TAGS",
    "Abandoned",
    "ArtifactCompleted",
    "ArtifactFailed",
    "ArtifactInlined",
    "ArtifactLogged",
    "ArtifactPending",
    "Event",
    "ExperimentCreated",
    "ExperimentDeleted",
    "ExperimentRenamed",
    "ExperimentRestored",
    "ExperimentTagDeleted",
    "ExperimentTagsSet",
    "LossNotice",
    "MetricLogged",
    "MetricsLogged",
    "ParamsLogged",
    "RowsLogged",
    "RunDeleted",
    "RunEnded",
    "RunRestored",
    "RunStarted",
    "RunUpdated",
    "TagDeleted",
    "TagsSet",
    "decode_event",
    "encode_event",
]

RUN_STATUSES: Final = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
"""MLflow's run statuses."""


class RunStarted(Struct, array_like=True, frozen=True, gc=False, tag=1):
    """A run begins.  The first one by order decides experiment, user and start time."""

    run_id: str
    experiment_id: str
    start_time: int
    name: str | None = None
    user: str | None = None


class RunUpdated(Struct, array_like=True, frozen=True, gc=False, tag=2):
    """A run's name or status changes without ending it; fields that are None stay as they are."""

    run_id: str
    name: str | None = None
    status: str | None = None


class RunEnded(Struct, array_like=True, frozen=True, gc=False, tag=3):
    """A run ends with a status."""

    run_id: str
    status: str
    end_time: int


class ParamsLogged(Struct, array_like=True, frozen=True, tag=4):
    """Params of a run; for each key the first value by order wins."""

    run_id: str
    params: dict[str, str]


class MetricLogged(Struct, array_like=True, frozen=True, gc=False, tag=5):
    """One point of one metric.  ``value`` is a double, kept bit for bit."""

    run_id: str
    key: str
    value: float
    step: int
    timestamp: int


class MetricsLogged(Struct, array_like=True, frozen=True, tag=6):
    """One point of each of several metrics, at the same step and time."""

    run_id: str
    metrics: dict[str, float]
    step: int
    timestamp: int


class TagsSet(Struct, array_like=True, frozen=True, tag=7):
    """Tags of a run; for each key the last value by order wins."""

    run_id: str
    tags: dict[str, str]


class TagDeleted(Struct, array_like=True, frozen=True, gc=False, tag=8):
    """A tag of a run is removed: a tombstone in the same order as the values."""

    run_id: str
    key: str


class RowsLogged(Struct, array_like=True, frozen=True, tag=9):
    """Rows appended to a table of a run.

    ``table`` is the table's path without suffix.  ``rows`` has one list a row, each as long as ``columns``.
    """

    run_id: str
    table: str
    columns: list[str]
    rows: list[list[Any]]


class ArtifactLogged(Struct, array_like=True, frozen=True, gc=False, tag=10):
    """A file of a run, by reference: its bytes lie content-addressed under ``sha256`` (64 hex digits)."""

    run_id: str
    path: str
    sha256: str
    size: int
    media_type: str | None = None


class ExperimentCreated(Struct, array_like=True, frozen=True, tag=11):
    """An experiment exists from here on.  The first name by order is its computed-id name."""

    experiment_id: str
    name: str
    creation_time: int
    tags: dict[str, str] = {}


class ExperimentRenamed(Struct, array_like=True, frozen=True, gc=False, tag=12):
    """The displayed name changes; the id stays."""

    experiment_id: str
    name: str


class ExperimentTagsSet(Struct, array_like=True, frozen=True, tag=13):
    """Tags of an experiment; for each key the last value by order wins."""

    experiment_id: str
    tags: dict[str, str]


class ExperimentTagDeleted(Struct, array_like=True, frozen=True, gc=False, tag=14):
    """A tag of an experiment is removed."""

    experiment_id: str
    key: str


class ExperimentDeleted(Struct, array_like=True, frozen=True, gc=False, tag=15):
    """The experiment and its runs are marked deleted."""

    experiment_id: str


class ExperimentRestored(Struct, array_like=True, frozen=True, gc=False, tag=16):
    """The experiment and its runs are active again."""

    experiment_id: str


class RunDeleted(Struct, array_like=True, frozen=True, gc=False, tag=17):
    """The run is marked deleted."""

    run_id: str


class RunRestored(Struct, array_like=True, frozen=True, gc=False, tag=18):
    """The run is active again."""

    run_id: str


class LossNotice(Struct, array_like=True, frozen=True, gc=False, tag=19):
    """Events that were dropped, as counted in a segment header; made by whoever reads the journal.

    For one ``(journal, segment, reason)`` the greatest count holds.  It has no seq of its own.
    """

    journal: str
    segment: int
    reason: str
    count: int


class Abandoned(Struct, array_like=True, frozen=True, gc=False, tag=20):
    """Consecutive seqs that hold no event, from its own on; made by whoever reads the journal.

    ``reason`` is ``abandoned`` (the calls never returned: nothing was accepted), ``corrupt`` (damaged: ``raw`` has the
    bytes, perhaps cut) or ``torn`` (they never reached the disk).
    """

    count: int = 1
    reason: str = "abandoned"
    raw: bytes = b""


class ArtifactInlined(Struct, array_like=True, frozen=True, gc=False, tag=21):
    """A small file of a run with its bytes, as made by ``log_text`` and the like: `ArtifactLogged` without a detour."""

    run_id: str
    path: str
    content: bytes
    media_type: str | None = None


class ArtifactPending(Struct, array_like=True, frozen=True, gc=False, tag=22):
    """A large file of a run is being copied.  `ArtifactCompleted` or `ArtifactFailed` follows, unless its process ends.

    ``size`` is that of the file at the call, bytes.
    """

    run_id: str
    path: str
    size: int


class ArtifactCompleted(Struct, array_like=True, frozen=True, gc=False, tag=23):
    """The bytes of an `ArtifactPending` are there: `ArtifactLogged`, as of the moment when that was logged.

    ``journal`` (32 hexadecimal digits), ``seq`` and ``emit_ts`` are the identity and the time of the event that it
    completes.
    """

    run_id: str
    path: str
    sha256: str
    size: int
    media_type: str | None
    journal: str
    seq: int
    emit_ts: int


class ArtifactFailed(Struct, array_like=True, frozen=True, gc=False, tag=24):
    """The bytes of an `ArtifactPending` will not come.  ``reason`` is ``changed`` or ``unreadable``."""

    run_id: str
    path: str
    reason: str
    detail: str
    journal: str
    seq: int


Event = (
    RunStarted
    | RunUpdated
    | RunEnded
    | ParamsLogged
    | MetricLogged
    | MetricsLogged
    | TagsSet
    | TagDeleted
    | RowsLogged
    | ArtifactLogged
    | ExperimentCreated
    | ExperimentRenamed
    | ExperimentTagsSet
    | ExperimentTagDeleted
    | ExperimentDeleted
    | ExperimentRestored
    | RunDeleted
    | RunRestored
    | LossNotice
    | Abandoned
    | ArtifactInlined
    | ArtifactPending
    | ArtifactCompleted
    | ArtifactFailed
)

TAGS: Final[dict[int, type[Struct]]] = {struct.__struct_config__.tag: struct for struct in Event.__args__}
"""Tag of each event type."""

encode_event = msgspec.msgpack.Encoder().encode
"""Encode one event to bytes.  Raises what msgspec raises for values that MessagePack cannot hold; see ``values``."""

_decoder = msgspec.msgpack.Decoder(Event, ext_hook=decode_extension)
_any_decoder = msgspec.msgpack.Decoder()  # extensions stay what they are: a newer event may hold newer ones


def decode_event(body: bytes | memoryview) -> Event:
    """Decode one event.

    Raises `UnknownEventError` for a well-formed event of an unknown type, `CorruptDataError` for anything else that
    is not an event, and for one that would take more memory than `weighing.MAX_WEIGHT`.
    """
    if is_too_heavy(body):
        raise CorruptDataError(f"the {len(body)} bytes hold so many values that they would take {MAX_WEIGHT} of memory")
    try:
        event: Event = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _explain(body, error) from error
    return event


def _explain(body: bytes | memoryview, error: Exception) -> CorruptDataError:
    try:
        value = _any_decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return CorruptDataError(f"not MessagePack: {error}")
    if isinstance(value, list) and value and isinstance(value[0], int) and value[0] not in TAGS:
        return UnknownEventError(f"event type {value[0]} is not known to this version; upgrade the reader and retry")
    return CorruptDataError(f"not an event: {error}")
