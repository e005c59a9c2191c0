"""Events that would take far more memory than their bytes are found out before they are decoded."""

import random
import struct
from typing import Any

import msgspec
import pytest

from runstream_schemas import events as ev
from runstream_schemas import weighing
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.events import decode_event
from runstream_schemas.segment import MAX_BODY
from runstream_schemas.weighing import is_too_heavy
from runstream_sink.apply import apply
from runstream_sink.rules import MAX_ROWS
from support.hostile_events import RUN
from support.stores import batch

CELL = b"\x95\x09\xd9\x20" + RUN.encode() + b"\xa1t\x91\xa1a\x91\x91"
"""An event with one row of one cell begins."""


def event_of(unit: bytes, size: int = MAX_BODY) -> bytes:
    """An event whose only cell is a list of one value again and again, of a size in bytes."""
    count = (size - len(CELL) - 5) // len(unit)
    return CELL + b"\xdd" + struct.pack(">I", count) + unit * count


@pytest.mark.parametrize(
    "unit",
    [
        b"\x90",
        b"\x80",
        b"\x91\xc0",
        b"\x81\xa0\xc0",
        b"\xdc\0\0",
        b"\xa1x",
        b"\xd6\xff\0\0\0\1",
        b"\xd4\1\1",
        b"\xd0\x80",
    ],
    ids=[
        "lists",
        "maps",
        "lists of one",
        "maps of one",
        "long lists",
        "texts",
        "times",
        "integers",
        "negative numbers",
    ],
)
def test_an_event_of_very_many_values_is_refused(monkeypatch: pytest.MonkeyPatch, unit: bytes) -> None:
    """Whatever they are.  The limit is lower here, for the sake of time."""
    monkeypatch.setattr(weighing, "MAX_WEIGHT", 16 << 20)
    body = event_of(unit, 2 << 20)
    with pytest.raises(CorruptDataError, match="hold so many values"):
        decode_event(body)


def test_the_largest_event_of_empty_lists_is_refused() -> None:
    """They would take six gigabytes."""
    with pytest.raises(CorruptDataError, match="hold so many values"):
        decode_event(event_of(b"\x90"))


@pytest.mark.parametrize(
    "unit",
    [b"\x01", b"\xcb" + bytes(8), b"\xdb\0\x01\0\0" + b"x" * 65536, b"\xc6\0\x01\0\0" + bytes(65536)],
    ids=["small integers", "floats", "texts", "bytes"],
)
def test_the_largest_events_that_programs_log_are_light_enough(unit: bytes) -> None:
    """Lists of numbers and long texts."""
    assert not is_too_heavy(event_of(unit))


def test_what_every_kind_of_value_weighs_is_more_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The walk comes to the end of each, whatever lies beside it."""
    monkeypatch.setattr(weighing, "_LIGHT", 0)
    values: list[Any] = [None, True, 5, -5, 200, -100, 40_000, -40_000, 1 << 31, -(1 << 31), 1 << 63, -(1 << 63), 0.5]
    values += ["", "x", "ü" * 40, "x" * 300, "x" * 70_000, b"", b"x" * 300, b"x" * 70_000]
    values += [[], [1], [1] * 20, [1] * 70_000, {}, {"a": 1}, {str(n): n for n in range(70_000)}]
    values += [msgspec.msgpack.Ext(5, bytes(size)) for size in (1, 2, 4, 8, 16, 3, 300, 70_000)]
    values += [{str(n): n for n in range(20)}]
    for value in values:
        body = msgspec.msgpack.encode(value)
        weight, at = 0.0, 0
        while at < len(body):
            at, weight = _step(body, at, weight)
        assert at == len(body), value
        assert weight >= 8


def _step(body: bytes, at: int, weight: float) -> tuple[int, float]:
    run = weighing._run(body, at)
    if run is not None and run.lastindex is not None:
        return run.end(), weight + weighing._RUN_WEIGHTS[run.lastindex - 1] * (run.end() - at)
    size, more = weighing._value(body, at)
    return at + size, weight + more


@pytest.mark.parametrize("seed", range(20))
def test_any_bytes_are_weighed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Lengths and counts that are lies, an end in the middle of a value."""
    monkeypatch.setattr(weighing, "_LIGHT", 0)
    rng = random.Random(seed)
    for _ in range(300):
        assert is_too_heavy(rng.randbytes(rng.randrange(200))) in {True, False}
    assert is_too_heavy(b"\xdf\xff\xff\xff\xff")
    assert not is_too_heavy(b"\xdd\xff\xff\xff\xff")


@pytest.mark.slow
def test_an_event_below_a_mebibyte_is_not_looked_at() -> None:
    """It is decoded at once; what it holds cannot take much."""
    event = decode_event(event_of(b"\x90", 1 << 20))
    assert isinstance(event, ev.RowsLogged)
    assert len(event.rows[0][0]) > 1_000_000


@pytest.mark.slow
def test_an_event_of_too_many_rows_is_dead() -> None:
    """However narrow they are, each takes memory on its way into a file."""
    most, one_more = (ev.RowsLogged(RUN, "t", [], [[]] * (MAX_ROWS + more)) for more in (0, 1))
    changes = apply([batch(b"p" * 16, [most, one_more])], {})
    assert [(letter.seq, letter.reason) for letter in changes.dead] == [(1, "invalid")]
