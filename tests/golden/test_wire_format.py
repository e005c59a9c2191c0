"""docs/wire-format.md is true: its bytes are the golden ones, its tables the code's; a decoder in JavaScript agrees."""

import json
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runstream_schemas import batch, chunk, segment, weighing
from runstream_schemas.batch import Batch, decode_batch, encode_batches
from runstream_schemas.describe import event_list
from runstream_schemas.errors import CorruptDataError
from runstream_schemas.events import RowsLogged, decode_event, encode_event
from runstream_schemas.reader import JournalReader, Position
from runstream_schemas.segment import DROP_REASONS, Hole, Record, drop_offset, pack_header, pack_record, record_seed
from runstream_schemas.values import BIG_INTEGER, RowEncoder, decode_extension
from runstream_sink.rules import MAX_ROWS
from support.components import real_component
from support.json_form import json_form, unpacked

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "wire-format.md").read_text("utf-8")
GOLDEN = Path(__file__).parent / "schemas_v1"
DECODER = ROOT / "examples" / "decoder.mjs"
HEX_LINE = re.compile(r" *(\d+)  ((?:[0-9a-f]{2} ?)+)(?:  .*)?")
RUN = "0193a1b2c3d47e5f8a9b0c1d2e3f4a5b"
PRODUCER = bytes(range(16))
TIME = 1_795_496_400_000_000_000


def tables(head: str) -> list[list[list[str]]]:
    """Cells of the page's tables with these columns, without code marks."""
    found = re.findall(rf"^\| {re.escape(head)} \|\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [
        [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for table in found
    ]


def layouts(text: str, row: str) -> list[list[tuple[str, str]]]:
    """Offsets and sizes of the tables in a text, cut where an offset is 0."""
    found: list[list[tuple[str, str]]] = []
    for offset, size in re.findall(row, text, re.MULTILINE):
        if offset == "0":
            found.append([])
        found[-1].append((offset, size))
    return found


def decoded(*files: Path) -> list[Any]:
    """What the decoder in JavaScript prints of files."""
    command = [real_component("node"), str(DECODER), *map(str, files)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    return [json.loads(line) for line in printed.split("\n")[:-1]]


def lines(records: list[Record]) -> list[Any]:
    """What it should print of these records."""
    return [
        {"producer_id": PRODUCER.hex(), "seq": seq, "emit_ts": emit_ts, "event": unpacked(body)}
        for seq, emit_ts, body in records
    ]


def encoded(records: list[Record], codec: str = "none") -> bytes:
    """One batch of them."""
    ((data, _),) = encode_batches(Batch(PRODUCER, records, []), 1 << 20, codec)
    return data


def batch_lines(found: Batch) -> list[Any]:
    """What it should print of a batch."""
    holes = [
        {"producer_id": PRODUCER.hex(), "first": first, "last": last, "hole": reason, "raw": json_form(raw)}
        for first, last, reason, raw in found.holes
    ]
    return sorted(lines(found.records) + holes, key=lambda line: line.get("seq", line.get("first")))


def gap(hole: Hole) -> Any:
    """What it should print of a hole."""
    reason = hole.reason if hole.reason == "abandoned" else "lost"
    return {"producer_id": PRODUCER.hex(), "first": hole.first, "last": hole.last, "hole": reason}


def read_in_python(directory: Path, data: bytes) -> list[Any]:
    """The same of a segment of a dead journal, read by the library."""
    journal = directory / PRODUCER.hex()
    journal.mkdir()
    (journal / "0000000001.seg").write_bytes(data)
    reader = JournalReader(journal, Position(1))
    found: list[Record | Hole] = []
    before = None
    while reader.position != before:
        before = reader.position
        chunk = reader.read(1 << 20)
        found += [*chunk.records, *chunk.holes]
    reader.close()
    ordered = sorted(found, key=lambda one: one[0])
    return [gap(one) if isinstance(one, Hole) else lines([one])[0] for one in ordered]


def test_the_pages_bytes_are_the_golden_bytes() -> None:
    """At the offsets where it says, line by line, each line where the one before it ends."""
    blocks = re.findall(r"```hex (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in blocks] == [
        *("batch-none.bin", "batch-zlib.bin", "batch-holes.bin", "batch-claimed.bin", "chunk-1.bin"),
        *("segment.seg", "segment.seg", "segment.seg"),
        "events/MetricLogged.msgpack",
    ]
    for name, block in blocks:
        golden = (GOLDEN / name).read_bytes()
        expected = None
        for line in block.splitlines():
            match = HEX_LINE.fullmatch(line)
            assert match, line
            offset, shown = int(match[1]), bytes.fromhex(match[2])
            assert expected in {None, offset}, line
            assert golden[offset : offset + len(shown)] == shown, line
            expected = offset + len(shown)


def test_the_pages_layouts_are_those_of_the_code() -> None:
    """Batch, its events, claim, chunk, header and record: the docstrings' tables, and the sizes of the structs."""
    page = layouts(PAGE, r"^\| (\d+) \| (\d*n?) \| ")
    docstrings = str(batch.__doc__) + str(chunk.__doc__) + str(segment.__doc__)
    assert page == layouts(docstrings, r"^ {6,8} *(\d+) {3,4}(\d*n?)  ")
    assert [table[-1][0] for table in page] == [
        *("40", "12", "32", str(chunk.CHUNK_HEADER_SIZE), "80", str(segment.RECORD_HEADER_SIZE))
    ]
    assert ("56", "4") in page[4]
    assert (segment.SEAL_OFFSET, segment.STATE_OFFSET) == (56, 64)
    for table in page:
        for (offset, size), (following, _) in pairwise(table):
            assert int(offset) + int(size) == int(following)


def test_the_pages_texts_of_fields_are_those_of_the_code() -> None:
    """What lies at an offset is described in one and the same way."""
    docstrings = " ".join((str(batch.__doc__) + str(chunk.__doc__) + str(segment.__doc__)).split())
    for table in tables("offset | size | what"):
        for _, _, what in table:
            known = what.removesuffix(" (RFC 1950)").removesuffix(", by reason").split(":")[0]
            assert known.replace('b"', "") in docstrings.replace('b"', "").replace('"', ""), what


def test_the_pages_events_are_those_of_the_code() -> None:
    """Every tag with its name and fields."""
    (table,) = tables("tag | event | fields")
    assert table == [[str(tag), name, ", ".join(fields) or "none"] for tag, name, fields in event_list()]


def test_the_pages_reasons_of_dropping_are_those_of_the_code() -> None:
    """In order, at their offsets."""
    (table,) = tables("offset | reason | dropped because")
    assert [(int(offset), reason) for offset, reason, _ in table] == [
        (drop_offset(reason), reason) for reason in DROP_REASONS
    ]


def test_the_pages_limits_are_those_of_the_code() -> None:
    """In bytes and numbers."""
    (table,) = tables("limit | value")
    values = [int(value.split()[0]) for _, value in table]
    limits = [segment.MAX_BODY, batch.MAX_PAYLOAD, batch.MAX_EVENTS, MAX_ROWS, weighing.MAX_WEIGHT, segment.MAX_SEQ]
    assert values == limits
    (size,) = re.findall(r"at most ([\d,]+) bytes", PAGE)
    largest = int(size.replace(",", ""))
    assert decode_extension(BIG_INTEGER, memoryview(bytes(largest))) == 0
    with pytest.raises(CorruptDataError):
        decode_extension(BIG_INTEGER, memoryview(bytes(largest + 1)))


def test_the_pages_reasons_of_dead_letters_are_the_sinks() -> None:
    """Each is a word of the code."""
    (table,) = tables("reason | what was wrong")
    code = "".join(path.read_text("utf-8") for path in (ROOT / "sink" / "runstream_sink").rglob("*.py"))
    code += "".join(path.read_text("utf-8") for path in (ROOT / "schemas" / "runstream_schemas").rglob("*.py"))
    assert all(f'"{reason}"' in code for reason, _ in table)


@pytest.mark.parametrize("name", ["none", "zlib", "holes"])
def test_the_decoder_reads_the_golden_batches(name: str) -> None:
    """Every event and every hole as Python does."""
    file = GOLDEN / f"batch-{name}.bin"
    found = decode_batch(file.read_bytes())
    assert len(found.records) + len(found.holes) == (8 if name == "holes" else 20)
    assert repr(decoded(file)) == repr(batch_lines(found))  # -0.0, and 1 is not 1.0


def test_the_decoder_reads_a_claimed_batch_behind_its_chunks() -> None:
    """In whatever order these come, and however often."""
    chunks = [GOLDEN / f"chunk-{number}.bin" for number in (1, 2)]
    first, second, again, *events = decoded(chunks[1], chunks[0], chunks[1], GOLDEN / "batch-claimed.bin")
    assert [one["offset"] for one in (first, second, again)] == [800, 0, 800]
    for line, file in zip((first, second), reversed(chunks), strict=True):
        piece = chunk.decode_chunk(file.read_bytes())
        assert line == {**piece._asdict(), "data": json_form(piece.data)}
    assert events == batch_lines(decode_batch((GOLDEN / "batch-none.bin").read_bytes()))


def test_the_decoder_refuses_a_claimed_batch_without_all_its_chunks() -> None:
    """Since its hash is wrong, or nothing of it is there."""
    for before in ([], [GOLDEN / "chunk-2.bin"]):
        with pytest.raises(subprocess.CalledProcessError):
            decoded(*before, GOLDEN / "batch-claimed.bin")


def test_the_decoder_reads_the_golden_segment(tmp_path: Path) -> None:
    """Events, the abandoned one, and nothing behind the end."""
    found = decoded(GOLDEN / "segment.seg")
    assert found == read_in_python(tmp_path, (GOLDEN / "segment.seg").read_bytes())
    assert found[5] == gap(Hole(5, 5, "abandoned"))
    assert len(found) == 20


def test_the_decoder_reads_every_golden_event(tmp_path: Path) -> None:
    """Also those that came after the batches were made."""
    bodies = [path.read_bytes() for path in sorted((GOLDEN / "events").iterdir())]
    records = [(seq, TIME, body) for seq, body in enumerate(bodies)]
    data = encoded(records, "zlib")
    (tmp_path / "batch").write_bytes(data)
    assert decoded(tmp_path / "batch") == batch_lines(decode_batch(data))


def test_the_decoder_reads_every_kind_of_value(tmp_path: Path) -> None:
    """Integers of each width, all extensions, timestamps of each form, floats, texts, bytes, long and nested ones."""
    claim = msgspec.msgpack.encode(["ab" * 32, 1 << 40, "json"])
    moments = [b"\xd6\xff" + bytes(4), b"\xd7\xff" + (999_999_000 << 34 | (1 << 33)).to_bytes(8, "big")]
    moments += [
        b"\xc7\x0c\xff" + (5000).to_bytes(4, "big") + seconds.to_bytes(8, "big", signed=True) for seconds in (-1, 0)
    ]
    widths = [
        sign * (1 << bits) - offset for bits in (5, 7, 8, 15, 16, 31, 32, 63) for sign in (1, -1) for offset in (0, 1)
    ]
    values = [
        *(0, *(value for value in widths if value >= -(1 << 63)), (1 << 64) - 1, 1 << 64, -(1 << 90), 10**4000),
        *(0.1, 1.0, -0.0, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")),
        *("", '\ufeffa\u2028"\\\x00', "ü" * 20, "x" * 300, "y" * 70_000, b"", b"\xff" * 300, b"z" * 70_000),
        *(
            None,
            True,
            False,
            [],
            {},
            [[1, {"__proto__": [None], "10": 1, "9": {}}]] * 20,
            {str(at): at for at in range(20)},
        ),
        *map(msgspec.Raw, (b"\xdd\x00\x00\x00\x01\x01", b"\xdf\x00\x00\x00\x01\xa1a\x01")),
        *(msgspec.msgpack.Ext(2, claim), msgspec.Raw(b"\xca\x3f\x80\x00\x00"), *map(msgspec.Raw, moments)),
    ]
    names = [str(at) for at in range(len(values))]
    encoder = RowEncoder()
    cells = [
        value if isinstance(value, msgspec.Raw | msgspec.msgpack.Ext) else msgspec.Raw(encoder.encode_row([value])[1:])
        for value in values
    ]
    record = (0, TIME, encode_event(RowsLogged(RUN, "t", names, [cells])))
    (tmp_path / "batch").write_bytes(encoded([record]))
    assert repr(decoded(tmp_path / "batch")) == repr(lines([record]))
    assert decode_event(record[2])


def test_the_decoder_keeps_what_is_no_event_and_goes_on(tmp_path: Path) -> None:
    """Types that it does not know are events, too; bytes that are none are kept, also those that look like holes."""
    bodies = [b"\xc1", b"\x92\x05", b"\x91\xcd\x03\xe7", b"\x91\x14\x00", b"\xdd\xff\xff\xff\xff"]
    bodies += [b"\xdc\x00\x02\x14\x05", b"\x93\x14\x05\x05", b"\x91\x14"]
    records = [(seq, TIME, body) for seq, body in enumerate(bodies)]
    data = encoded(records)
    (tmp_path / "batch").write_bytes(data)
    found = decoded(tmp_path / "batch")
    assert [line.get("seq") for line in found] == [0, 1, 2, 3, 4, 5, 6, None]
    assert [line.get("event") for line in found] == [None, None, [999], None, None, [20, 5], [20, 5, 5], None]
    assert [line.get("raw") for line in found] == ["wQ==", "kgU=", None, "kRQA", "3f////8=", None, None, ""]
    assert decode_batch(data) == Batch(PRODUCER, records[:-1], [Hole(7, 7, "abandoned")])


def test_the_decoder_goes_on_behind_damage(tmp_path: Path) -> None:
    """A dead journal with a bit that flipped, an unfinished record at its end, and no seal."""
    seed = record_seed(PRODUCER)
    packed = [bytearray(pack_record(seq, TIME + seq, b"\x91\x14", seed)) for seq in range(5)]
    packed[1][25] ^= 1
    packed[4][:4] = bytes(4)
    data = (pack_header(PRODUCER, 1, 8192, TIME) + b"".join(packed)).ljust(8192, b"\0")
    (tmp_path / "segment.seg").write_bytes(data)
    found = decoded(tmp_path / "segment.seg")
    assert found[1] == gap(Hole(1, 1, "corrupt"))
    assert found[4] == gap(Hole(4, 4, "abandoned"))
    assert found == read_in_python(tmp_path, data)


@pytest.mark.parametrize("name", ["batch-none.bin", "batch-zlib.bin", "chunk-1.bin", "segment.seg"])
def test_the_decoder_refuses_a_damaged_file(name: str, tmp_path: Path) -> None:
    """By the checksum of the batch or the header."""
    data = bytearray((GOLDEN / name).read_bytes())
    data[33] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(subprocess.CalledProcessError):
        decoded(tmp_path / name)


def test_the_decoder_is_short_and_needs_no_library() -> None:
    """What a stranger reads first: at most 80 lines, and imports of node alone."""
    parts = {f"./{path.name}" for path in DECODER.parent.glob("*.mjs")}
    assert parts == {"./bytes.mjs", "./decoder.mjs", "./messagepack.mjs", "./segment.mjs"}
    for name in parts:
        text = (DECODER.parent / name).read_text("utf-8")
        assert len(text.splitlines()) <= 80
        assert set(re.findall(r'from "([^"]+)"', text)) <= {"node:crypto", "node:fs", "node:zlib"} | parts
