"""Events on the wire: what evolves, and what is refused."""

import math
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import CorruptDataError, UnknownEventError
from runstream_schemas.events import (
    TAGS,
    ExperimentCreated,
    LossNotice,
    MetricLogged,
    RowsLogged,
    RunStarted,
    RunUpdated,
    decode_event,
    encode_event,
)

encode = msgspec.msgpack.encode


@pytest.mark.parametrize("tag", sorted(TAGS))
def test_unknown_trailing_fields_are_skipped(tag: int) -> None:
    """An event of a newer producer, with fields more, is what this version knows of it."""
    fields: dict[int, list[Any]] = {
        1: ["r", "0", 1, None, None],
        2: ["r", None, None],
        3: ["r", "FAILED", 1],
        4: ["r", {}],
        5: ["r", "k", 0.5, 0, 0],
        6: ["r", {}, 0, 0],
        7: ["r", {}],
        8: ["r", "k"],
        9: ["r", "t", [], []],
        10: ["r", "p", "a", 0, None],
        11: ["0", "n", 0, {}],
        12: ["0", "n"],
        13: ["0", {}],
        14: ["0", "k"],
        15: ["0"],
        16: ["0"],
        17: ["r"],
        18: ["r"],
        19: ["j", 0, "quota", 1],
        20: [1, "torn", b"raw"],
        21: ["r", "p", b"bytes", None],
        22: ["r", "p", 1],
        23: ["r", "p", "00", 1, None, "00", 2, 3],
        24: ["r", "p", "changed", "how", "00", 2],
    }
    event = decode_event(encode([tag, *fields[tag]]))
    assert type(event) is TAGS[tag]
    assert decode_event(encode([tag, *fields[tag], {"new": [1]}, msgspec.msgpack.Ext(99, b"?")])) == event


def test_missing_fields_are_their_defaults() -> None:
    """An event of an older producer."""
    assert decode_event(encode([1, "r", "0", 5])) == RunStarted("r", "0", 5)
    assert decode_event(encode([2, "r"])) == RunUpdated("r")
    assert decode_event(encode([11, "0", "n", 5])) == ExperimentCreated("0", "n", 5, {})


def test_tags_are_dense_and_no_type_has_two() -> None:
    """A tag once given out stays."""
    assert sorted(TAGS) == list(range(1, 25))
    assert TAGS[5] is MetricLogged
    assert TAGS[19] is LossNotice


@pytest.mark.parametrize("tag", [0, 25, 127, -1, 1 << 40])
def test_a_type_of_a_newer_version_is_unknown(tag: int) -> None:
    """Whatever it holds: the message says what to do."""
    with pytest.raises(UnknownEventError, match=rf"event type {tag} is not known.*upgrade"):
        decode_event(encode([tag, "x", {"a": msgspec.msgpack.Ext(55, b"new")}]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x93\x05",
        encode("text"),
        encode([]),
        encode([["nested"]]),
        encode(["RunStarted", "r"]),
        encode({"tag": 1}),
        encode([1, "r"]),
        encode([5, "r", "k", "no number", 0, 0]),
        encode([5, "r", "k", 0.5, 1 << 63, "x"]),
        encode([17, 5]),
        encode([17, "r"]) + b"\0",
        b"\x92\x11\xa2\xff\xfe",
        b"\x92\xcc\x63\xa2\xff\xfe",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x95\x09\xa1r\xa1t\x91\xa1c\xdd\xff\xff\xff\xff",
        encode([9, "r", "t", ["c"], [[msgspec.msgpack.Ext(77, b"?")]]]),
    ],
    ids=lambda body: body[:8].hex(),
)
def test_what_is_no_event_is_corrupt(body: bytes) -> None:
    """Never another exception, and never more memory than the body is worth."""
    with pytest.raises(CorruptDataError) as raised:
        decode_event(body)
    assert type(raised.value) is CorruptDataError


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_an_event_or_corrupt(body: bytes) -> None:
    """There is no third way."""
    try:
        decode_event(body)
    except CorruptDataError:
        return


@given(st.binary(min_size=8, max_size=8))
def test_a_metric_is_kept_bit_for_bit(bits: bytes) -> None:
    """NaN payloads and the sign of zero, too."""
    (value,) = struct.unpack(">d", bits)
    event = decode_event(encode_event(MetricLogged("r", "k", value, 0, 0)))
    assert isinstance(event, MetricLogged)
    assert struct.pack(">d", event.value) == bits


def test_a_memoryview_decodes_as_well() -> None:
    """Without a copy."""
    rows = RowsLogged("r", "t", ["a"], [[math.inf, b"\0", 1 << 63]])
    assert decode_event(memoryview(encode_event(rows))) == rows
