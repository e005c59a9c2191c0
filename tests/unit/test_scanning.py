"""Looking at records: in buffers that change while they are read, in windows, and in hostile segments."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.scanning import Extent, Scan, scan
from runstream_schemas.segment import HEADER_SIZE, MAX_BODY, MAX_SEQ, Hole, Record, pack_record

TIME = 1_795_496_400_000_000_000
START = HEADER_SIZE
WINDOW = 64 << 10


def record(seq: int, body: bytes = b"body") -> bytes:
    """A whole record."""
    return pack_record(seq, TIME + seq, body)


def unfinished(seq: int, body: bytes = b"body") -> bytes:
    """A record without its commit mark."""
    return bytes(4) + record(seq, body)[4:]


def damaged(seq: int, body: bytes = b"body") -> bytes:
    """A record with a wrong byte in its body."""
    whole = bytearray(record(seq, body))
    whole[24] ^= 1
    return bytes(whole)


def fixed(data: bytes) -> Callable[[int, int], bytes]:
    """A segment's records that do not change."""
    return lambda size, offset: data[offset - START : offset - START + size]


def look(
    data: bytes, next_seq: int = 0, *, final: bool = False, end: bool = False, window: int = WINDOW, at: int = START
) -> Scan:
    """One look at what lies behind the header."""
    stop = START + len(data)
    return scan(fixed(data), at, next_seq, Extent(stop, stop if end else 0, final), window)


def look_on(data: bytes, next_seq: int = 0, *, final: bool = True, end: bool = False, window: int = WINDOW) -> Scan:
    """Look until the end, or until nothing changes."""
    records: list[Record] = []
    holes: list[Hole] = []
    at = START
    while True:
        found = look(data, next_seq, final=final, end=end, window=window, at=at)
        records += found.records
        holes += found.holes
        if found.ended or found.offset == at:
            return Scan(records, holes, found.offset, found.next_seq, found.ended)
        at, next_seq = found.offset, found.next_seq


def seqs(found: Scan) -> list[int]:
    """Of the records."""
    return [seq for seq, _, _ in found.records]


def test_whole_records_are_taken() -> None:
    """Up to the zeros behind them."""
    data = record(0, b"a") + record(1, b"bb" * 5000)
    assert look(data + bytes(64)) == Scan([(0, TIME, b"a"), (1, TIME + 1, b"bb" * 5000)], [], START + len(data), 2)


def test_a_look_begins_anywhere() -> None:
    """Where the last one ended."""
    data = record(0) + record(1)
    assert seqs(look(data, 1, at=START + len(record(0)))) == [1]


def test_only_so_much_is_taken_as_the_window_holds() -> None:
    """But one record at least, however large."""
    data = record(0, bytes(100)) + record(1, bytes(300_000)) + record(2)
    first = look(data, window=WINDOW)
    assert seqs(first) == [0]
    second = look(data, 1, at=first.offset, window=WINDOW)
    assert seqs(second)[0] == 1
    assert seqs(look(data, 2, at=second.offset)) in ([], [2])


@pytest.mark.parametrize("tail", [b"", bytes(16), bytes(4096), unfinished(1), unfinished(1) + bytes(64)])
def test_a_living_segment_is_waited_for(tail: bytes) -> None:
    """Where nothing was begun, and where something may still be finished."""
    found = look(record(0) + tail)
    assert seqs(found) == [0]
    again = look(record(0) + tail, 1, at=found.offset)
    assert again == Scan([], [], found.offset, 1)


@pytest.mark.parametrize("size", [1, 4_000, 100_000])
def test_a_record_is_abandoned_when_its_successor_lies_behind_it(size: int) -> None:
    """In a living segment, too: records are written one after the other."""
    found = look_on(record(0) + unfinished(1, bytes(size)) + record(2) + bytes(64), final=False)
    assert seqs(found) == [0, 2]
    assert found.holes == [Hole(1, 1, "abandoned")]


def test_records_abandoned_in_a_row_are_passed_over() -> None:
    """Each is a hole."""
    found = look_on(unfinished(0) + unfinished(1) + unfinished(2) + record(3), final=False)
    assert seqs(found) == [3]
    assert found.holes == [Hole(0, 0, "abandoned"), Hole(1, 1, "abandoned"), Hole(2, 2, "abandoned")]


def test_a_record_that_was_finished_while_it_was_read_is_not_passed_over() -> None:
    """One read may copy a record before its commit mark is there, and its successor afterwards."""
    before = unfinished(0) + record(1)
    after = record(0) + record(1)
    reads = iter([before, after])
    found = scan(lambda _size, _offset: next(reads), START, 0, Extent(START + 4096, 0, final=False), WINDOW)
    assert seqs(found) == [0, 1]
    assert found.holes == []


def test_a_record_whose_bytes_came_late_is_not_taken_for_damaged() -> None:
    """A machine that orders stores weakly may show the commit mark before the body."""
    reads = iter([damaged(0) + record(1), record(0) + record(1)])
    found = scan(lambda _size, _offset: next(reads), START, 0, Extent(START + 4096, 0, final=False), WINDOW)
    assert seqs(found) == [0, 1]


def test_damage_in_a_living_segment_is_passed_over_once_something_whole_lies_behind() -> None:
    """Until then it is waited for."""
    assert look(damaged(0) + bytes(64)) == Scan([], [], START, 0)
    found = look_on(damaged(0) + record(1), final=False)
    assert seqs(found) == [1]
    assert found.holes == [Hole(0, 0, "corrupt", damaged(0))]


def test_what_changes_between_two_looks_at_damage_is_waited_for() -> None:
    """The second look must show at least what the first showed."""
    reads = iter([damaged(0) + record(1), damaged(0) + damaged(1), damaged(0) + damaged(1)])
    found = scan(lambda _size, _offset: next(reads), START, 0, Extent(START + 4096, 0, final=False), WINDOW)
    assert found == Scan([], [], START, 0)


def test_an_abandoned_record_with_a_damaged_length_hides_nothing() -> None:
    """Even where the length leads to the beginning of a later record."""
    begun = bytearray(unfinished(0, bytes(8)))
    struct.pack_into("<I", begun, 4, 8 + 2 * len(record(1)))
    data = bytes(begun) + record(1) + record(2) + record(3)
    for final in (False, True):
        found = look_on(data, final=final)
        assert seqs(found) == [1, 2, 3]
        assert found.holes == [Hole(0, 0, "abandoned")]


def test_a_final_segment_ends_behind_its_last_record() -> None:
    """So that the room behind it can be given back."""
    data = record(0) + bytes(4096)
    assert look_on(data) == Scan([(0, TIME, b"body")], [], START + len(record(0)), 1, ended=True)


def test_a_final_segment_gives_up_what_is_unfinished() -> None:
    """Nobody was promised anything."""
    found = look_on(record(0) + unfinished(1) + bytes(4096))
    assert found.ended
    assert (seqs(found), found.holes, found.next_seq) == ([0], [Hole(1, 1, "abandoned")], 2)


def test_a_call_that_was_killed_before_it_stored_its_seq_leaves_no_damage() -> None:
    """Only its length is there: nothing was accepted, and nothing is wrong."""
    begun = bytes(4) + record(1)[4:8] + bytes(4088)
    assert look_on(record(0) + begun) == Scan([(0, TIME, b"body")], [], START + 64, 1, ended=True)


def test_an_unfinished_record_that_reaches_beyond_the_segment_ends_it() -> None:
    """Its room was there, but the file is cut."""
    found = look_on(record(0) + unfinished(1, bytes(100))[:64])
    assert found.ended
    assert (seqs(found), found.holes) == ([0], [Hole(1, 1, "abandoned")])


@pytest.mark.parametrize("torn", [24, 4096, 3 << 20])
def test_what_never_reached_the_disk_is_torn(torn: int) -> None:
    """What lies behind it is found, however far."""
    found = look_on(record(0) + bytes(torn) + record(5) + record(6))
    assert seqs(found) == [0, 5, 6]
    assert found.holes == [Hole(1, 4, "torn")]


def test_a_sealed_segment_that_ends_early_is_torn() -> None:
    """At least one event is missing; how many, the next segment shows."""
    found = look_on(record(0) + bytes(4096), end=True)
    assert (found.ended, found.holes, found.next_seq) == (True, [Hole(1, 1, "torn")], 2)
    stop = START + len(record(0))
    cut = scan(fixed(record(0)), stop, 1, Extent(stop, stop + 64, final=True), WINDOW)
    assert (cut.ended, cut.holes) == (True, [Hole(1, 1, "torn")])


def test_a_sealed_segment_that_is_whole_just_ends() -> None:
    """There is no hole."""
    found = look_on(record(0) + record(1), end=True)
    assert (found.ended, seqs(found), found.holes) == (True, [0, 1], [])


def test_what_is_missing_before_a_whole_record_is_torn() -> None:
    """As at the beginning of a segment, when the tail of the one before was lost."""
    assert look(record(4), 2).holes == [Hole(2, 3, "torn")]
    found = look_on(unfinished(4) + record(5), 2)
    assert found.holes == [Hole(2, 3, "torn"), Hole(4, 4, "abandoned")]


def test_where_the_seq_is_not_known_there_are_no_holes_before_it() -> None:
    """Behind a segment that was freed."""
    found = look_on(record(9) + record(10), -1)
    assert (seqs(found), found.holes) == ([9, 10], [])
    found = look_on(damaged(8) + record(9), -1)
    assert (seqs(found), found.holes) == ([9], [])
    assert look_on(damaged(8), -1) == Scan([], [], START + len(damaged(8)), -1, ended=True)
    found = look_on(unfinished(8) + unfinished(9) + record(10), -1)
    assert (seqs(found), found.holes) == ([10], [Hole(9, 9, "abandoned")])


def test_damage_is_one_hole_with_the_bytes() -> None:
    """In the middle and at the end."""
    found = look_on(damaged(0) + damaged(1) + record(2) + damaged(3) + bytes(64))
    assert found.holes == [
        Hole(0, 1, "corrupt", damaged(0) + damaged(1)),
        Hole(3, 3, "corrupt", damaged(3) + bytes(64)),
    ]
    assert (seqs(found), found.next_seq, found.ended) == ([2], 4, True)


def test_a_record_that_reaches_beyond_a_final_segment_is_corrupt() -> None:
    """Its length is wrong, or the file was cut."""
    found = look_on(record(0) + record(1, bytes(100))[:64])
    assert (seqs(found), [hole[:3] for hole in found.holes]) == ([0], [(1, 1, "corrupt")])


def test_a_record_that_reaches_beyond_a_living_segment_is_waited_for() -> None:
    """It cannot be finished, but nothing is given up while the writer lives."""
    assert look(record(0, bytes(100))[:64]) == Scan([], [], START, 0)


@pytest.mark.parametrize(
    ("seq", "length"), [(MAX_SEQ + 1, 4), (1, MAX_BODY + 1), (0, 4)], ids=["seq", "length", "a seq that was there"]
)
def test_an_impossible_record_is_corrupt(seq: int, length: int) -> None:
    """Whatever its checksum says."""
    bad = bytearray(record(seq & 0xFF))
    if length > MAX_BODY or seq > MAX_SEQ:
        struct.pack_into("<IQ", bad, 4, length, seq)
    found = look_on(record(0) + bytes(bad) + record(2))
    assert seqs(found) == [0, 2]
    assert found.holes == [Hole(1, 1, "corrupt", bytes(bad))]


def test_a_look_stops_before_what_was_emitted_later() -> None:
    """And says so."""
    data = record(0) + record(1) + record(2)
    found = scan(fixed(data), START, 0, Extent(START + len(data), 0, final=True), WINDOW, until=TIME + 1)
    assert (seqs(found), found.next_seq, found.late) == ([0, 1], 2, True)
    assert found.offset == START + 2 * len(record(0))
    rest = scan(fixed(data), found.offset, 2, Extent(START + len(data), 0, final=True), WINDOW, until=TIME + 1)
    assert (rest.records, rest.offset, rest.late) == ([], found.offset, True)


def test_a_whole_record_in_a_damaged_body_does_not_hide_the_next() -> None:
    """Whoever logs the bytes of a segment, and loses a bit of them, gets back what follows."""
    inner = record(500, b"inner")
    found = look_on(record(0) + damaged(1, bytes(8) + inner) + record(2))
    assert seqs(found)[0] == 0
    assert found.next_seq >= 3


class Hostile:
    """A segment of a terabyte, made while it is read; notes the largest read."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern * ((1 << 20) // len(pattern) + 1)
        self.largest = 0

    def read(self, size: int, offset: int) -> bytes:
        """Bytes, without an end."""
        self.largest = max(self.largest, size)
        period = len(self.pattern)
        return (self.pattern * (size // period + 2))[offset % period : offset % period + size]


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern",
    [
        bytes(4096),
        b"\xff" * 64,
        unfinished(0, bytes(1 << 16))[:64].ljust(4096, b"\0"),
        struct.pack("<IIQq", 7, MAX_BODY, 0, TIME).ljust(16 << 20, b"\0"),
        struct.pack("<IIQq", 0, MAX_BODY, 0, TIME).ljust(16 << 20, b"\0"),
    ],
    ids=["zeros", "ones", "unfinished", "huge", "huge and unfinished"],
)
@pytest.mark.parametrize("final", [False, True])
def test_memory_is_bounded_whatever_a_segment_holds(pattern: bytes, final: bool) -> None:
    """However large it is."""
    hostile = Hostile(pattern)
    size = 140 << 20 if len(pattern) > 4096 else 8 << 20
    at, next_seq = START, 0
    for _ in range(3):
        found = scan(hostile.read, at, next_seq, Extent(START + size, 0, final), WINDOW)
        assert sum(len(hole.raw) for hole in found.holes) <= 1 << 20
        if found.ended or found.offset == at:
            break
        at, next_seq = found.offset, found.next_seq
    assert hostile.largest <= 2 * (MAX_BODY + 100)


PIECES = st.one_of(
    st.builds(lambda seq, size: record(seq, b"x" * size), st.integers(0, 6), st.integers(1, 60)),
    st.builds(lambda seq, size: unfinished(seq, b"x" * size), st.integers(0, 6), st.integers(1, 60)),
    st.builds(damaged, st.integers(0, 6)),
    st.builds(lambda count: bytes(8 * count), st.integers(1, 20)),
    st.builds(
        lambda words: struct.pack(f"<{len(words)}Q", *words), st.lists(st.integers(0, (1 << 64) - 1), max_size=6)
    ),
)


@given(st.lists(PIECES, max_size=12), st.booleans(), st.booleans(), st.sampled_from([64, 200, WINDOW]))
def test_any_bytes_are_read_to_the_end(pieces: list[bytes], final: bool, end: bool, window: int) -> None:
    """Records come with rising seqs, once; seqs are records or holes without a gap; windows change nothing."""
    data = b"".join(pieces)
    found = look_on(data, final=final or end, end=end, window=window)
    assert found.ended == (final or end)
    covered = sorted([*((one[0], one[0]) for one in found.records), *(hole[:2] for hole in found.holes)])
    expected = 0
    for first, last in covered:
        assert first == expected
        expected = last + 1
    assert expected == found.next_seq
    if final or end:
        whole = look_on(data, end=end)
        assert whole.records == found.records
        assert [hole[:3] for hole in whole.holes] == [hole[:3] for hole in found.holes]


def test_whole_records_of_another_journal_are_no_records_of_this_one() -> None:
    """As where somebody logs a segment's bytes, and the record that holds them is damaged."""
    foreign = pack_record(5, TIME, b"foreign", seed=1)
    outer = bytearray(pack_record(1, TIME + 1, bytes(40) + foreign, seed=2))
    outer[30] ^= 1
    data = pack_record(0, TIME, b"first", seed=2) + bytes(outer) + pack_record(2, TIME + 2, b"third", seed=2)
    extent = Extent(START + len(data), 0, final=True)
    offset, seqs, holes = START, [], []
    next_seq = 0
    while True:
        found = scan(fixed(data), offset, next_seq, extent, WINDOW, seed=2)
        seqs += [seq for seq, _, _ in found.records]
        holes += found.holes
        offset, next_seq = found.offset, found.next_seq
        if found.ended:
            break
    assert seqs == [0, 2]
    assert [(hole.first, hole.last, hole.reason) for hole in holes] == [(1, 1, "corrupt")]
