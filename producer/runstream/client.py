"""This process's one way into the stream: settings, journal, background thread, fork and exit.

`emit` is the hot path.  Everything that touches the disk happens at the first event of a process, in the background
thread, or in calls that say so (flush, close, artifacts).
"""

import atexit
import contextlib
import math
import mmap
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

from msgspec import Struct

from runstream import config
from runstream.artifacts import Staging
from runstream.background import BackgroundCopies, Origin
from runstream.counts import Counts, with_nested
from runstream.filesystem import Filesystem
from runstream.journal import Clock, Journal
from runstream.journal_directory import JournalDirectory
from runstream.keeper import Keeper
from runstream.sampling import Sampling, Tally
from runstream.shipping.link import Link
from runstream_schemas.errors import InvalidInputError
from runstream_schemas.events import MetricLogged, MetricsLogged, TagsSet, encode_event
from runstream_schemas.segment import DROP_REASONS
from runstream_schemas.streams import KafkaStream
from runstream_schemas.values import RowEncoder

__all__ = ["Client", "client"]


class Endable(Protocol):
    """What a client knows of a run."""

    def end(self, status: str = "FINISHED") -> None:
        """End it."""


Redactor = Callable[[dict[str, Any]], dict[str, Any]]

_MADV_WIPEONFORK: Final = 18
_OPEN_RETRY: Final = 1.0
_BLOCK_PAUSE: Final = 0.005
_EXIT_TIMEOUT: Final = 2.0
_COPY_TIMEOUT: Final = 2.0
"""Seconds that `close` and the interpreter's end wait for files that are being copied."""
_SAMPLE: Final = slice(*(config.Config._fields.index(name) for name in ("sample", "experiment")))
"""The settings of sampling among all."""
_EXIT_PATIENCE: Final = 0.5
"""Seconds that all log calls together may wait for room once the interpreter ends."""


class Client:
    """Where log calls leave their events.  One a process; thread-safe."""

    active_runs: dict[str, Endable]
    """By run id, the runs that this process began and has not ended."""
    announced: set[str]
    """Ids of the experiments that this process has announced on the stream."""
    sampling: Sampling | None
    """What is logged where not all is."""
    shapes_rows: bool
    """Whether rows are redacted or sampled, or nobody has looked at the settings yet."""
    claim_size: int
    """Bytes of an event of one row above which its cells are looked at; 0 until somebody has looked at the settings."""
    samples_points: bool
    """Whether not all points of metrics are logged, or nobody has looked at the settings yet."""
    random: random.Random
    """For ids and names."""
    _guard: mmap.mmap
    """One page that a fork wipes: so that a child which was forked by C code is noticed without a system call."""
    _journal: Journal | None
    _keeper: Keeper | None
    _copies: BackgroundCopies | None
    counts: Counts
    _unopened_drops: dict[str, int]
    """Events that were dropped while there was no journal, by reason."""

    def __init__(self, filesystem: Filesystem | None = None) -> None:
        self.redact: Redactor | None = None
        self._filesystem = filesystem or Filesystem()
        self._arguments: dict[str, Any] = {}
        self._config: config.Config | None = None
        self.sampling, self.shapes_rows, self.claim_size = None, True, 0
        self.samples_points = True
        self._reset()
        atexit.register(self._at_exit)
        os.register_at_fork(after_in_child=self._after_fork)

    def configure(self, **settings: Any) -> None:
        """Set some of this process's settings; the others stay.

        Where the journal's settings change, the one that is open is closed, and the next event opens one anew.
        """
        redact = settings.pop("redact", self.redact)
        if redact is not None and not callable(redact):
            raise InvalidInputError(f"redact must be callable, not {type(redact).__name__}")
        unknown = settings.keys() - {setting.name for setting in config.PRODUCER_SETTINGS}
        if unknown:
            raise InvalidInputError(f"there is no setting {', '.join(sorted(unknown))}; see docs/settings.md")
        arguments = {**self._arguments, **settings}
        resolved = config.resolve(**arguments)
        before = self._config
        self._arguments = arguments
        self.redact = redact
        self._adopt(resolved)
        if before != resolved:
            self.announced = set()
            self.close()
            self.counts.forget_ends()
            self._vanished = ""

    def _adopt(self, resolved: config.Config) -> config.Config:
        """Have settings hold, and what follows from them."""
        before, self._config = self._config, resolved
        if before is None or before[_SAMPLE] != resolved[_SAMPLE]:
            sampling = Sampling(resolved.sample, resolved.sample_by, resolved.sample_key)
            self.sampling = sampling if resolved.sample < 1 else None
        self.shapes_rows = self.redact is not None or self.sampling is not None
        self.claim_size = resolved.claim_size
        self.samples_points = self.sampling is not None
        return resolved

    @property
    def config(self) -> config.Config:
        """The settings that hold."""
        return self._config or self._adopt(config.resolve())

    def samples_run(self, run_id: str) -> bool:
        """Whether rows and points of a run may be logged.  A run that is sampled says so in its tags."""
        sampling = self.config and self.sampling
        if sampling is None:
            return True
        if sampling.is_new(run_id):
            self.emit(TagsSet(run_id, sampling.tags(run_id)))
        return sampling.keeps_run(run_id)

    def emit_points(self, event: MetricLogged | MetricsLogged) -> None:
        """`emit` for points of metrics, as far as they are sampled."""
        if self.samples_run(event.run_id):
            self.emit(event)
        else:
            self.points_left_out.add(1 if isinstance(event, MetricLogged) else len(event.metrics))

    def emit_located(self, event: Struct) -> Origin | None:
        """Put an event on the stream and say where it went; None if it was dropped, which is counted."""
        self._notice_fork()
        origins: list[Origin] = []

        def append(journal: Journal, body: bytes) -> str | None:
            refusal, origin = journal.append_located(body)
            if refusal is None:
                origins.append(origin)
            return refusal

        self._emit_with_trouble(self.encoder.encode(event), append)
        return origins[0] if origins else None

    def copies(self) -> BackgroundCopies:
        """What copies large files."""
        with self._opening:
            if self._copies is None:
                self._copies = BackgroundCopies(self.emit)
            return self._copies

    def emit(self, event: Struct) -> None:
        """Put an event on the stream.  Never raises because of the environment; what cannot be accepted is counted."""
        try:
            body = encode_event(event)
        except (TypeError, ValueError, OverflowError):
            body = self.encoder.encode(event)
        self.emit_body(body)

    def emit_body(self, body: bytes, now: int = 0) -> None:
        """Put an encoded event on the stream; ``now`` is the time in nanoseconds, if that is known."""
        if not self._guard[0]:
            self._after_fork()
        journal = self._journal
        if journal is None or journal.append(body, now) is not None:
            self._emit_with_trouble(body)

    def count_drop(self, reason: str) -> None:
        """Count something that could not be logged, where a reader finds it."""
        self._notice_fork()
        while (journal := self._open()) is not None:
            if journal.count_drop(reason):  # else another thread has just closed it
                return
        self._unopened_drops[reason] += 1

    def staging(self, *, sync: bool = True) -> Staging:
        """Where artifact bytes go before the sink takes them; with ``sync`` each is on the disk before its event."""
        return Staging(self.config.staging, sync=sync)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every event so far, and every file, is safe; False after ``timeout`` s or a failure.

        Safe is on the disk, and with a stream in Kafka acknowledged by its brokers, which is waited for at most 30 s
        where there is no ``timeout``.
        """
        begun = time.monotonic()
        if not self._flush_to_disk(timeout):
            return False
        return self._link.wait(None if timeout is None else begun + timeout - time.monotonic())

    def _flush_to_disk(self, timeout: float | None) -> bool:
        self._notice_fork()
        begun = time.monotonic()
        if self._copies is not None:
            if not self._copies.wait(timeout):
                return False
            timeout = None if timeout is None else max(0.0, timeout - (time.monotonic() - begun))
        journal, keeper = self._journal, self._keeper
        if journal is None:
            return not any(self._unopened_drops.values())
        if keeper is not None:
            return keeper.sync_now(timeout)
        try:
            for one in with_nested(journal):
                one.sync()
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Sync and seal the journal.  An event that comes later opens another one."""
        self._notice_fork()
        if self._copies is not None:
            self._copies.wait(_COPY_TIMEOUT)
        self._close_journal()

    def _close_journal(self) -> None:
        with self._opening:
            keeper, self._keeper = self._keeper, None
            journal, self._journal = self._journal, None
        if journal is not None:
            _shut(journal, keeper)
            self.counts.settle(journal)
            self._link.closed(journal)

    def stats(self) -> dict[str, Any]:
        """Counts since this process began: see `runstream.stats`."""
        self._notice_fork()
        keeper, totals = self._keeper, self.counts.totals()
        return {
            "accepted": totals["accepted"],
            "synced": totals["synced"],
            "shipped": self._link.shipped if isinstance(self.config.stream, KafkaStream) else None,
            "dropped": {reason: self._unopened_drops[reason] + totals[reason] for reason in DROP_REASONS},
            "stalls": totals["stalls"],
            "converted": self.encoder.converted,
            "sampled_out": self.rows_left_out.total,
            "sampled_out_points": self.points_left_out.total,
            "copying": 0 if self._copies is None else self._copies.unfinished,
            "lost_files": 0 if self._copies is None else self._copies.lost,
            "stream": str(self.config.stream),
            "queue": str(self.config.queue),
            "error": (keeper.error if keeper is not None else "") or self._vanished or self._link.error,
        }

    def _reset(self) -> None:
        """Begin as a process does that has logged nothing."""
        self._guard = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # an old kernel: forks from C are then not noticed
            self._guard.madvise(_MADV_WIPEONFORK)
        self._guard[0] = 1
        self.random = random.Random(os.urandom(32))  # noqa: S311 - ids and names, no secrets
        self.encoder = RowEncoder()
        self._clock = Clock()
        self._journal = None
        self._keeper = None
        self._opening = threading.RLock()
        self._open_failed_at = -_OPEN_RETRY
        self._unopened_drops = dict.fromkeys(DROP_REASONS, 0)
        self._ending = False
        self._wait_until = math.inf
        self._vanished = ""
        self._copies = None
        self.rows_left_out, self.points_left_out = Tally(), Tally()
        self.counts = Counts()
        self._link = Link()
        self.active_runs = {}
        self.announced = set()

    def _after_fork(self) -> None:
        """This is a forked child: the journal is the parent's.  Let go of it; the next event opens one of our own."""
        journal, copies = self._journal, self._copies
        self._reset()
        if copies is not None:
            copies.abandon()
        if journal is not None:
            with contextlib.suppress(OSError):
                journal.abandon()

    def _notice_fork(self) -> None:
        if not self._guard[0]:
            self._after_fork()

    def _open(self) -> Journal | None:
        """This process's journal, opened if need be; None while that fails."""
        with self._opening:
            held = self._journal
            if held is not None:
                return held
            if time.monotonic() - self._open_failed_at < _OPEN_RETRY:
                return None
            try:
                journal = self._make_journal()
            except OSError:
                self._open_failed_at = time.monotonic()
                return None
            keeper = self._start_keeper(journal)
            held = self._journal
            if held is None:
                self.counts.add(journal)
                self._journal, self._keeper = journal, keeper
                self._hand_over_drops(journal)
                self._link.opened(journal, self.config, self._arguments)
                return journal
        _shut(journal, keeper)  # a signal handler or a destructor logged meanwhile
        return held

    def _hand_over_drops(self, journal: Journal) -> None:
        """Let readers know of what was dropped while there was no journal that could have told them."""
        for reason, count in self._unopened_drops.copy().items():
            if count:
                self._unopened_drops[reason] -= count
                journal.count_drop(reason, count)

    def _leave(self, vanished: Journal) -> None:
        """Somebody has removed the journal: the next event opens another one."""
        self._vanished = f"{vanished.directory.path} was removed while it was in use; what no sink had read is lost"
        self.announced = set()
        self._link.closed(vanished, lost=True)
        self._close_journal()

    def _start_keeper(self, journal: Journal) -> Keeper | None:
        if self._ending:  # a thread that is started now might never run, and would be waited for
            return None
        keeper = Keeper(lambda: with_nested(journal), self.config.sync_interval, self._leave, self._link.look)
        journal.kept = keeper.start()
        return keeper if journal.kept else None

    def _make_journal(self) -> Journal:
        queue = self.config.queue
        return Journal(
            lambda: JournalDirectory(queue / "journals", queue / "consumers", self._filesystem),
            self._filesystem,
            self._clock,
            quota=self.config.journal_quota,
            segment_size=self.config.segment_size,
        )

    def _emit_with_trouble(self, body: bytes, append: Callable[[Journal, bytes], str | None] = Journal.append) -> None:
        """The journal did not take an event: open one, wait if the policy says so, or count it as dropped."""
        waits = self.config.policy == "block"
        deadline = min(time.monotonic() + self.config.block_timeout, self._wait_until) if waits else 0.0
        while True:
            journal = self._open()
            reason = "disk" if journal is None else append(journal, body)
            if reason is None:
                return
            if reason == "closed":  # by another thread, just now: the next one is open or can be opened
                continue
            if reason not in _WAITABLE or time.monotonic() >= deadline:
                break
            time.sleep(_BLOCK_PAUSE)
        self.count_drop(reason)

    def _at_exit(self) -> None:
        """End the runs that this process began and did not end, as MLflow does, and seal the journal."""
        self._notice_fork()
        self._wait_until = time.monotonic() + _EXIT_PATIENCE
        for run in list(self.active_runs.values()):
            run.end()
        self._ending = True
        if self._copies is not None:
            self._copies.wait(_COPY_TIMEOUT)
            self._copies.stop()
        self.close()
        self._link.end()


def _shut(journal: Journal, keeper: Keeper | None) -> None:
    if keeper is not None:
        keeper.stop(_EXIT_TIMEOUT)
    with contextlib.suppress(OSError):
        journal.close()


_WAITABLE: Final = ("quota", "disk")

client = Client()
"""This process's client."""
