"""Bugs planted on purpose: a simulation that does not find them proves nothing."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from runstream.shipping.shipper import Shipper
from runstream_schemas.reader import JournalReader
from runstream_schemas.segment import HEADER_SIZE
from runstream_sink import consumer
from runstream_sink.kafka.chunks import ChunkStore
from runstream_sink.kafka.source import KafkaSource
from runstream_sink.source import ReassignedError
from runstream_sink.store.writing import Writer
from runstream_sink.tables.filesystem import FileSystem
from support.journals import FaultyBuffer
from support.simulation import failure_of

pytestmark = pytest.mark.slow

MOST_SEEDS = 60
Plant = Callable[[pytest.MonkeyPatch], None]


def commit_before_the_tables_are_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database knows lengths that the disk has not."""
    monkeypatch.setattr(FileSystem, "sync_data", lambda *_: None)


def commit_before_the_journal_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store knows more than its stream."""
    monkeypatch.setattr(JournalReader, "sync", lambda _: None)


def recover_without_truncating(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a transaction that never was stay in the file."""
    monkeypatch.setattr(consumer, "recover", lambda *_: [])


def forget_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store does not remember which events it applied."""
    monkeypatch.setattr(Writer, "_write_seen", lambda *_: {})


def mark_before_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit mark of a record is stored before its body is."""
    store, held = FaultyBuffer.__setitem__, {}

    def swapped(self: FaultyBuffer, key: slice, value: bytes) -> None:
        size = key.stop - key.start
        if key.start > HEADER_SIZE and size not in {1, 4, 20}:
            held[self] = key, value
            return
        store(self, key, value)
        if self in held and size == 4:
            store(self, *held.pop(self))

    monkeypatch.setattr(FaultyBuffer, "__setitem__", swapped)


def write_positions_before_they_are_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper takes what it has read for what is on the topic."""
    read = Shipper._read

    def and_write(self: Shipper) -> Any:
        delivery, cargo = read(self)
        self._progress.advance({name: after for name, (_, after) in delivery.positions.items()})
        return delivery, cargo

    monkeypatch.setattr(Shipper, "_read", and_write)


def free_what_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper frees segments as soon as it has read them."""
    read = Shipper._read

    def and_free(self: Shipper) -> Any:
        delivery, cargo = read(self)
        self._acknowledgements.settle({name: after for name, (_, after) in delivery.positions.items()})
        self._free()
        return delivery, cargo

    monkeypatch.setattr(Shipper, "_read", and_free)


def read_on_when_partitions_are_assigned_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source does not go back to what its store has committed."""
    fetch = KafkaSource._fetch

    async def and_go_on(self: KafkaSource, limit: int) -> None:
        with contextlib.suppress(ReassignedError):
            await fetch(self, limit)
        self._generation = self._log.generation

    monkeypatch.setattr(KafkaSource, "_fetch", and_go_on)


def commit_before_chunks_are_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is behind chunks that its disk does not have."""
    monkeypatch.setattr(ChunkStore, "sync", lambda _: None)


@pytest.mark.parametrize(
    "plant",
    [
        commit_before_the_tables_are_synced,
        commit_before_the_journal_is_synced,
        recover_without_truncating,
        forget_what_was_seen,
        mark_before_the_body,
        write_positions_before_they_are_acknowledged,
        free_what_is_sent,
        read_on_when_partitions_are_assigned_anew,
        commit_before_chunks_are_synced,
    ],
    ids=lambda plant: plant.__name__,
)
def test_the_simulation_finds(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that was planted, within few seeds."""
    plant(monkeypatch)
    tried: Any = next((seed for seed in range(MOST_SEEDS) if failure_of(seed)), None)
    assert tried is not None, f"not found in {MOST_SEEDS} seeds"
