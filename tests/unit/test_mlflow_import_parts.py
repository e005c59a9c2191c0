"""The parts of an import: whole journals, the ledger, files of tables."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from runstream.mlflow_import.journals import SealedJournal
from runstream.mlflow_import.ledger import Entry, Ledger
from runstream.mlflow_import.logged_tables import read_table, rows_digest, table_paths
from runstream.mlflow_import.model import RunState
from runstream.mlflow_import.points import PointSet, new_points, pack_history
from runstream_schemas.errors import EnvironmentUnavailableError
from runstream_schemas.reader import JournalReader, continuation_name, journal_names, segment_indices
from runstream_schemas.segment import Record
from runstream_schemas.values import RowEncoder

PRODUCER = bytes(range(16))
TIME = 1_795_496_400_000_000_000


def _read(path: Path) -> list[Record]:
    """All records of a journal, which has no holes and comes to an end."""
    reader, found = JournalReader(path), []
    while not reader.position.done:
        chunk = reader.read(1 << 20)
        assert not chunk.holes
        found += chunk.records
    reader.close()
    return found


@pytest.mark.parametrize("first", [0, 7])
def test_a_journal_that_is_written_at_once_is_read_whole(tmp_path: Path, first: int) -> None:
    """Over several segments; a continuation begins with the seq in its name, and nothing before it is missing."""
    journal = SealedJournal(tmp_path, PRODUCER, first, segment_size=4096 + 3 * 32)
    for number in range(10):
        journal.add(TIME + number, b"%d" % number)
    journal.close()
    name = PRODUCER.hex() if first == 0 else f"{PRODUCER.hex()}-0000000000000000007"
    assert journal_names(tmp_path) == [name] == [continuation_name(PRODUCER, first)]
    assert len(segment_indices(tmp_path / name)) == 4
    assert JournalReader(tmp_path / name).producer_id == PRODUCER
    assert _read(tmp_path / name) == [(first + n, TIME + n, b"%d" % n) for n in range(10)]


def test_names_that_are_nearly_journals_are_none(tmp_path: Path) -> None:
    """Neither a continuation without its digits nor one that is being made."""
    for name in (
        f"{PRODUCER.hex()}-7",
        f"{PRODUCER.hex()}-",
        f"{PRODUCER.hex()}.new",
        f"{PRODUCER.hex()}-{7:019d}.new",
    ):
        (tmp_path / name).mkdir()
    assert journal_names(tmp_path) == []


def test_the_ledger_tells_what_was_noted_last(tmp_path: Path) -> None:
    """What was taken back is as if it had never been; what is settled is kept once."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path)
    first = ledger.begin("lead", {"run": Entry(b"1", RunState(1, 1), (0, _points(1)))})
    batch = ledger.open_batch()
    assert batch is not None
    assert (batch.number, batch.lead) == (first, "lead")
    ledger.settle(first)
    second = ledger.begin("", {"run": Entry(b"2", RunState(1, 2), (1, _points(2)))})
    assert ledger.find("run", RunState) == (b"2", RunState(1, 2))
    assert [len(points) for points in ledger.points("run")] == [1, 2]
    ledger.take_back(second)
    assert ledger.find("run", RunState) == (b"1", RunState(1, 1))
    assert [len(points) for points in ledger.points("run")] == [1]
    assert ledger.open_batch() is None
    assert ledger.find("other", RunState) == (b"", None)
    ledger.close()


def _points(count: int) -> PointSet:
    return PointSet.of_histories({"m": pack_history((step, 0, 0.5) for step in range(count))})


def test_a_ledger_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Rather than misread."""
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(EnvironmentUnavailableError, match="newer version"):
        Ledger(tmp_path / "ledger.db")


def test_a_ledger_that_fails_says_so(tmp_path: Path) -> None:
    """In whatever is asked of it."""
    ledger = Ledger(tmp_path / "ledger.db")
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.executescript("DROP TABLE entry; DROP TABLE points; DROP TABLE batch")
    connection.close()
    for ask in (
        lambda: ledger.find("run", RunState),
        lambda: ledger.points("run"),
        lambda: ledger.begin("", {}),
        lambda: ledger.settle(1),
        ledger.open_batch,
    ):
        with pytest.raises(EnvironmentUnavailableError, match=r"ledger\.db cannot be used"):
            ask()
    ledger.close()


def test_points_know_each_other_by_their_keys(tmp_path: Path) -> None:
    """Though a key has another place than before, or is gone."""
    known = PointSet.of_histories({"b": pack_history([(0, 0, 1.0)]), "gone": pack_history([(0, 0, 1.0)])})
    found = PointSet.of_histories({"a": pack_history([(0, 0, 1.0)]), "b": pack_history([(0, 0, 1.0), (1, 1, -0.0)])})
    new = new_points(found, [PointSet.load(known.dump())])
    assert [tuple(point) for point in new] == [("a", 0, 0, 1.0), ("b", 1, 1, -0.0)]


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"columns": 1, "data": 2}', '{"columns": ["a"], "data": [[1, 2]]}'),
        *('{"columns": [], "data": [[]]}', '{"columns": ["a", "a"], "data": [[1, 2]]}'),
        *('{"columns": ["a"], "data": []}', '{"columns": ["a"], "data": [1]}'),
    ],
)
def test_what_is_no_table_gives_no_rows(tmp_path: Path, text: str) -> None:
    """Its file is kept as it is."""
    path = tmp_path / "t.json"
    path.write_text(text)
    assert read_table(path) is None


def test_tables_are_read(tmp_path: Path) -> None:
    """In pandas' split form, with whatever names its columns, and in Parquet."""
    path = tmp_path / "t.json"
    path.write_text(
        '{"columns": ["a", 1, ["b", 2]], "index": [0], "data": [[NaN, {"x": [1]}, 12345678901234567890123]]}'
    )
    block = read_table(path)
    assert block is not None
    assert block.columns == ["a", "1", '["b", 2]']
    assert block.rows[0][1:] == [{"x": [1]}, 12345678901234567890123]
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for values in ([1, None], []):
        parquet.write_table(arrow.table({"a": arrow.array(values, arrow.int64())}), tmp_path / "t.parquet")
        held = read_table(tmp_path / "t.parquet")
        assert (held and held.rows) == ([[1], [None]] if values else None)


def test_rows_are_the_same_where_they_are_worth_the_same() -> None:
    """A number is what it is worth, and a cell without a value none."""

    def digest(columns: list[str], *rows: list[Any]) -> bytes:
        return rows_digest(columns, rows, RowEncoder())

    assert digest(["a", "b"], [1, [1.0, {"y": 2, "x": None}]]) == digest(
        ["b", "c", "a"], [[1, {"x": None, "y": 2.0}], None, 1.0]
    )
    assert digest(["a"], [1.5]) != digest(["a"], [1])
    assert digest(["a"], [1e300]) != digest(["a"], [1e299])


@pytest.mark.parametrize("tag", ["no JSON", "3", '["x"]', '[{"type": "table"}]', '[{"path": 1, "type": "table"}]'])
def test_tags_that_name_no_tables_name_none(tag: str) -> None:
    """Whatever somebody has set."""
    assert table_paths({"mlflow.loggedArtifacts": tag}) == set()
    assert table_paths({"mlflow.loggedArtifacts": json.dumps([{"path": "a", "type": "table"}])}) == {"a"}
