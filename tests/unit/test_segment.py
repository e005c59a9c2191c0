"""The segment format: names, header, seal, records."""

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.errors import CorruptDataError, UnsupportedFormatError
from runstream_schemas.segment import (
    DROP_REASONS,
    HEADER_SIZE,
    RECORD_HEADER_SIZE,
    SEAL_OFFSET,
    STATE_OFFSET,
    SegmentHeader,
    align,
    checksum,
    drop_offset,
    is_segment_name,
    pack_header,
    pack_record,
    pack_seal,
    segment_name,
    unpack_header,
)

PRODUCER = bytes(range(16))
PAGE = pack_header(PRODUCER, 3, 65_536, 1_795_496_400_000_000_000)


def patched(page: bytes, offset: int, data: bytes) -> bytes:
    """The page with other bytes in one place."""
    return page[:offset] + data + page[offset + len(data) :]


@pytest.mark.parametrize("index", [0, 1, 9_999_999_999, 1 << 32])
def test_segment_names_sort_as_their_indices(index: int) -> None:
    """Ten digits."""
    assert is_segment_name(segment_name(index))
    assert int(segment_name(index)[:10]) == index


@pytest.mark.parametrize(
    "name", ["lock", "0.seg", "0000000000.new", "000000000x.seg", "\u0660" * 10 + ".seg", "00000000000.seg"]
)
def test_other_names_are_no_segments(name: str) -> None:
    """Temporary files above all."""
    assert not is_segment_name(name)


def test_a_new_header_has_no_seal_and_no_drops() -> None:
    """It says whose segment it is."""
    assert len(PAGE) == HEADER_SIZE
    assert unpack_header(PAGE) == SegmentHeader(PRODUCER, 3, 65_536, 1_795_496_400_000_000_000, 0, 0, (0, 0, 0, 0))


@given(st.integers(0, 8 * 56 - 1))
def test_a_flipped_bit_in_the_header_is_noticed(bit: int) -> None:
    """Nothing is then believed."""
    page = bytearray(PAGE)
    page[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CorruptDataError):
        unpack_header(bytes(page))


def test_a_header_that_is_cut_is_corrupt() -> None:
    """As after a power cut."""
    with pytest.raises(CorruptDataError, match="magic"):
        unpack_header(PAGE[:-1])


def test_a_newer_segment_is_unsupported() -> None:
    """The message says what to do."""
    checked = struct.pack("<I", 2) + PAGE[16:56]
    newer = patched(PAGE, 8, struct.pack("<I", crc32(checked)) + checked)
    with pytest.raises(UnsupportedFormatError, match=r"segment format 2.*upgrade"):
        unpack_header(newer)


@given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_a_sealed_header_says_where_the_journal_goes_on(end: int, following: int) -> None:
    """Once the seal is there, and not before."""
    state, seal = pack_seal(end, following)
    begun = patched(PAGE, STATE_OFFSET, state)
    assert unpack_header(begun)[4:6] == (0, 0)
    assert unpack_header(patched(begun, SEAL_OFFSET, seal))[4:6] == (end, following)


@given(st.integers(0, 8 * 20 - 1))
def test_a_damaged_seal_says_nothing(bit: int) -> None:
    """A wrong end would hide events."""
    state, seal = pack_seal(5_000, 4)
    page = bytearray(patched(patched(PAGE, STATE_OFFSET, state), SEAL_OFFSET, seal))
    at = [*range(SEAL_OFFSET, SEAL_OFFSET + 4), *range(STATE_OFFSET, STATE_OFFSET + 16)][bit // 8]
    page[at] ^= 1 << bit % 8
    assert unpack_header(bytes(page))[4:6] == (0, 0)


@pytest.mark.parametrize("reason", DROP_REASONS)
def test_each_reason_has_its_counter(reason: str) -> None:
    """In the header page, outside what is checked."""
    page = patched(PAGE, drop_offset(reason), (5).to_bytes(8, "little"))
    assert dict(zip(DROP_REASONS, unpack_header(page).drops, strict=True)) == dict.fromkeys(DROP_REASONS, 0) | {
        reason: 5
    }


@given(st.binary(min_size=1, max_size=20_000), st.integers(0, (1 << 62) - 1))
def test_a_record_is_its_fields_its_body_and_their_checksum(body: bytes, seq: int) -> None:
    """Padded to 8 bytes."""
    packed = pack_record(seq, 5, body)
    assert len(packed) == align(RECORD_HEADER_SIZE + len(body))
    assert struct.unpack_from("<IIQq", packed) == (crc32(packed[4 : 24 + len(body)]) or 1, len(body), seq, 5)
    assert packed[24 : 24 + len(body)] == body


@given(st.binary(max_size=3), st.integers(0, 13_000))
def test_the_checksum_in_steps_is_the_checksum(data: bytes, repeats: int) -> None:
    """Whatever the size of the steps."""
    assert checksum(data * repeats) == crc32(data * repeats)
    assert checksum(memoryview(data * repeats), 7) == crc32(data * repeats, 7)


def test_a_checksum_of_zero_is_stored_as_one() -> None:
    """As 0 means unfinished."""
    fields = struct.pack("<IQq", 4, 0, 5)
    target = crc32(fields)
    body = _suffix_for_zero(target)
    assert crc32(body, target) == 0
    assert pack_record(0, 5, body)[:4] == b"\1\0\0\0"


def _suffix_for_zero(crc: int) -> bytes:
    """The four bytes that bring a CRC-32 to 0."""
    table = [crc32(bytes([n])) ^ crc32(b"\0") for n in range(256)]
    top = {value >> 24: n for n, value in enumerate(table)}
    state, indices = 0xFFFFFFFF, []
    for _ in range(4):
        index = top[state >> 24]
        indices.append(index)
        state = ((state ^ table[index]) << 8) & 0xFFFFFFFF
    current, out = crc ^ 0xFFFFFFFF, bytearray()
    for index in reversed(indices):
        out.append((current & 0xFF) ^ index)
        current = (current >> 8) ^ table[index]
    return bytes(out)
