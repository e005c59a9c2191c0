"""The small pieces of a store: location, lock, cache, statements, metric values."""

import math
import os
import sqlite3
import stat
import struct
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, StoreInUseError
from runstream_sink.changes import MetricPoint
from runstream_sink.location import StoreLocation
from runstream_sink.store import migrate, statements
from runstream_sink.store.lock import StoreLock
from runstream_sink.store.lru import LruCache
from runstream_sink.store.points import (
    Points,
    bits_of,
    insert_points,
    latest_point,
    points_by_metric,
    value_of,
)
from runstream_sink.store.statements import ROWS_AT_ONCE, SQL, execute_all, parse_statements


def test_a_directory_holds_the_database_its_lock_and_the_artifacts() -> None:
    """The default form of a store."""
    location = StoreLocation.parse("some/store")
    directory = Path("some/store")
    assert location == StoreLocation(
        "some/store", directory / "runstream.db", directory / "lock", directory / "artifacts"
    )


@pytest.mark.parametrize(("text", "file"), [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////a/b.db", "/a/b.db")])
def test_a_file_has_its_lock_and_the_artifacts_beside_it(text: str, file: str) -> None:
    """As in SQLAlchemy, a fourth slash makes it absolute."""
    location = StoreLocation.parse(text)
    assert location.database == Path(file)
    assert location.lock == Path(file + ".lock")
    assert location.artifacts == Path(file).parent / "artifacts"


def test_a_tilde_is_the_home_directory() -> None:
    """Settings come from files and units that no shell expands."""
    assert StoreLocation.parse("~/store").database == Path.home() / "store" / "runstream.db"


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a\0b", "sqlite://", "sqlite:///", "sqlite:///a/", "sqlite:///:memory:", "sqlite:///a\0"),
        *("sqlite:a", "postgresql://host/db", "kafka://host/topic", "queue:dir"),
    ],
)
def test_what_names_no_store_is_refused(text: str) -> None:
    """With a message that says what would be one."""
    with pytest.raises(InvalidInputError, match="store"):
        StoreLocation.parse(text)


def test_the_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    """And can be taken again when it is given back."""
    first, second = (StoreLock(tmp_path / "lock", "STORE") for _ in range(2))
    first.acquire()
    with pytest.raises(StoreInUseError, match=rf"STORE is in use by process {os.getpid()}, .*one sink at a time"):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_a_lock_that_nobody_signed_is_held_by_another_process(tmp_path: Path) -> None:
    """Between taking and signing it, its owner is not known."""
    first, second = (StoreLock(tmp_path / "lock", "STORE") for _ in range(2))
    first.acquire()
    os.truncate(tmp_path / "lock", 0)
    with pytest.raises(StoreInUseError, match="in use by another process"):
        second.acquire()
    first.release()


def test_a_lock_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A missing directory, for example."""
    with pytest.raises(EnvironmentUnavailableError, match="No such file"):
        StoreLock(tmp_path / "none" / "lock", "STORE").acquire()


def test_a_lock_that_cannot_be_signed_is_not_held(tmp_path: Path) -> None:
    """A device takes no length: the error is reported and nothing stays locked."""
    (tmp_path / "lock").symlink_to("/dev/null")
    assert stat.S_ISCHR((tmp_path / "lock").stat().st_mode)
    lock = StoreLock(tmp_path / "lock", "STORE")
    with pytest.raises(EnvironmentUnavailableError, match="cannot be taken"):
        lock.acquire()


def test_the_cache_forgets_what_was_not_used_for_the_longest_time() -> None:
    """Finding is using."""
    cache: LruCache[str, int] = LruCache(2)
    cache.update({"a": 1, "b": 2})
    assert cache.find(["a", "x", "x"]) == ({"a": 1}, ["x"])
    cache.update({"c": 3})
    assert cache.find(["a", "b", "c"]) == ({"a": 1, "c": 3}, ["b"])
    assert len(cache) == 2


@given(st.lists(st.dictionaries(st.integers(0, 9), st.integers(0, 5), max_size=4)))
def test_the_cache_never_weighs_more_than_its_capacity(updates: list[dict[int, int]]) -> None:
    """Also where values are replaced by heavier ones."""
    cache: LruCache[int, int] = LruCache(10, lambda value: value)
    for update in updates:
        cache.update(update)
        held, _ = cache.find(range(10))
        assert sum(held.values()) <= 10
        assert not held.keys() & update.keys() or all(held[key] == update[key] for key in held.keys() & update.keys())


def test_statements_are_named_by_the_lines_before_them() -> None:
    """What stands before the first name is a comment of the file."""
    text = "-- about\n-- name: one\nSELECT 1\n\n-- name: two\n-- why\nSELECT 2\n"
    assert parse_statements(text) == {"one": "SELECT 1", "two": "-- why\nSELECT 2"}


def test_a_name_that_stands_twice_is_an_error() -> None:
    """One statement would be lost silently."""
    with pytest.raises(ValueError, match="twice"):
        parse_statements("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")


def _point(step: int = 0, timestamp: int = 0, value: float = 0.0, seq: int = 0, idx: int = 0) -> MetricPoint:
    return step, timestamp, value, b"p" * 16, seq, idx


def test_every_file_of_statements_is_read() -> None:
    """One of each is there."""
    assert {"find_runs", "put_param", "put_table", "logical_runs", "runs_page", "counts"} <= SQL.keys()


@given(st.integers(0, (1 << 64) - 1))
def test_every_double_comes_back_bit_for_bit(bits: int) -> None:
    """Payloads of NaN and the sign of zero included."""
    (value,) = struct.unpack(">d", struct.pack(">Q", bits))
    ((*_, stored, extra),) = Points([_point(value=value)]).value_rows()
    assert stored is None or not math.isnan(stored)
    assert stored is None or stored != 0 or math.copysign(1, stored) > 0 or extra is not None
    assert bits_of(value_of(stored, extra)) == bits_of(value)


def test_points_stand_in_the_order_of_the_primary_key() -> None:
    """Inserting in order is what a B-tree likes."""
    points = [_point(step=step, value=math.nan, idx=idx) for step, idx in [(2, 0), (1, 1), (1, 0)]]
    metrics = points_by_metric({("b", "k"): points, ("a", "k"): points}, {"a": 1, "b": 2}, {"k": 1})
    assert list(metrics) == [(1, 1), (2, 1)]
    assert [point[0] for point in metrics[1, 1].points] == [1, 1, 2]


ODD: Final[dict[str, dict[str, Any]]] = {
    "nothing": {},
    "another producer": {"producer": b"q" * 16},
    "another idx": {"idx": 7},
    "NaN": {"value": math.nan},
    "-0.0": {"value": -0.0},
    "0.0": {"value": 0.0},
    "infinity": {"value": math.inf},
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("count", [1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, 2 * ROWS_AT_ONCE + 3])
def test_points_are_inserted_as_they_are_whatever_they_share(tmp_path: Path, count: int, odd: str) -> None:
    """Many that are alike go in together; one that is not changes nothing, nor does inserting them again."""
    points = [_point(step=step, timestamp=9, value=step + 0.5, seq=step) for step in range(count)]
    step, timestamp, value, producer_id, seq, idx = points[-1]
    other = ODD[odd]
    points[-1] = (
        *(step, timestamp, other.get("value", value)),
        *(other.get("producer", producer_id), seq, other.get("idx", idx)),
    )
    producers = {b"p" * 16: 3, b"q" * 16: 4}
    migrate.create(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        for _ in range(2):
            insert_points(connection, {(1, 2): Points(points)}, producers)
        found = connection.execute(
            "SELECT run, key, step, timestamp, value, bits, producer, seq, idx FROM metrics ORDER BY step"
        ).fetchall()
    assert [(*row[:4], bits_of(value_of(*row[4:6])), *row[6:]) for row in found] == [
        (1, 2, step, timestamp, bits_of(value), producers[producer_id], seq, idx)
        for step, timestamp, value, producer_id, seq, idx in points
    ]


@pytest.mark.parametrize(
    ("less", "greater"),
    [
        ({"step": 1, "timestamp": 9, "value": 9.0}, {"step": 2}),
        ({"timestamp": 1, "value": 9.0}, {"timestamp": 2}),
        ({"value": math.nan, "seq": 9}, {"value": -math.inf}),
        ({"value": 1.0, "seq": 9}, {"value": 2.0}),
        ({"value": 0.0}, {"value": -0.0, "seq": 1}),
        ({"value": math.nan}, {"value": math.nan, "seq": 1}),
        ({"seq": 1}, {"seq": 1, "idx": 1}),
        ({"seq": 255}, {"seq": 256}),
    ],
)
def test_the_latest_point_is_the_greatest_by_step_timestamp_value_and_identity(
    less: dict[str, Any], greater: dict[str, Any]
) -> None:
    """Whichever comes first."""
    a, b = _point(**less), _point(**greater)
    assert latest_point(sorted([a, b])) is b
    assert latest_point(sorted([b, a])) is b
    assert latest_point([_point(step=-1), *sorted([b, a])]) is b


@pytest.mark.parametrize("count", [0, 1, ROWS_AT_ONCE - 1, ROWS_AT_ONCE, ROWS_AT_ONCE + 1, 2 * ROWS_AT_ONCE + 3])
def test_any_number_of_rows_is_inserted(tmp_path: Path, count: int) -> None:
    """Most of them many at a time, the rest one by one; a conflict among them is decided row by row."""
    migrate.create(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        execute_all(connection, "insert_metric", [(1, 1, step, 0, 1, step, 0, 0.5, None) for step in range(count)])
        assert connection.execute("SELECT count(*), count(DISTINCT step) FROM metrics").fetchone() == (count, count)
        execute_all(connection, "put_param", ((1, 1, str(number), b"%09d" % number) for number in range(count)))
        assert connection.execute("SELECT value FROM params").fetchall() == [("0",)] * min(count, 1)


@pytest.mark.parametrize("name", ["put_tag", "put_latest_metric", "put_rollup", "insert_run", "put_part", "put_seen"])
def test_what_inserts_a_row_inserts_many_in_one_statement(tmp_path: Path, name: str) -> None:
    """Where the row's place was not found it would be done one by one, and slowly."""
    migrate.create(tmp_path / "store.db")
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute(
            f"EXPLAIN {statements._many(name, ROWS_AT_ONCE)}", [None] * SQL[name].count("?") * ROWS_AT_ONCE
        )


def test_what_changes_a_row_is_executed_for_each(tmp_path: Path) -> None:
    """However many there are."""
    migrate.create(tmp_path / "store.db")
    runs = [(run, f"{run:032x}", *[None] * 11) for run in range(1, 2 * ROWS_AT_ONCE)]
    with closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        execute_all(connection, "insert_run", runs)
        execute_all(connection, "name_run", [(run, f"name-{run}", b"1") for run, *_ in runs])
        found = connection.execute("SELECT count(DISTINCT name) FROM runs").fetchone()
    assert found == (len(runs),)
