"""What people see: texts, numbers, times, progress."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runstream_sink.cli import output
from runstream_sink.cli import progress as progress_module
from runstream_sink.cli.progress import progress


def test_a_text_keeps_its_letters_and_loses_what_a_terminal_obeys() -> None:
    """Escapes, line breaks, reversals of direction."""
    assert output.clean("héllo 你好") == "héllo 你好"
    assert output.clean("a\x1b[31m\nb\u202e") == "a\\x1b[31m\\nb\\u202e"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB"), (5 << 50, "5120.0 TiB")]
)
def test_sizes_have_units(count: int, text: str) -> None:
    """Of 1024."""
    assert output.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.25, "0.2 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (3600, "1 h 00 min"), (90000, "25 h 00 min")],
)
def test_durations_have_two_parts_at_most(seconds: float | None, text: str) -> None:
    """Whoever waits wants no more."""
    assert output.duration(seconds) == text


def test_times_are_utc_and_may_be_beyond_any_calendar() -> None:
    """Users log what they like."""
    assert output.time_of(None) is None
    assert output.time_of(0) == "1970-01-01 00:00:00Z"
    assert output.time_of(1 << 62) == str(1 << 62)


def test_numbers_that_json_lacks_are_texts(capsys: pytest.CaptureFixture[str]) -> None:
    """At any depth; bytes are base64."""
    output.print_json({"a": [float("nan"), {"b": float("-inf")}], "c": b"\0", "d": 1.5})
    assert capsys.readouterr().out == (
        '{\n  "a": [\n    "NaN",\n    {\n      "b": "-Infinity"\n    }\n  ],\n  "c": "AA==",\n  "d": 1.5\n}\n'
    )
    assert output.number(float("inf")) == "Infinity"
    assert output.number(None) is None


def test_a_table_elsewhere_than_on_a_terminal_is_neither_cut_nor_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    """Programs read it, too."""
    output.print_table(("name", "value"), [("x" * 500, None), ("y", 1)])
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) <= 510 for line in lines] == [True, True, True]
    assert lines[1] == "x" * 500
    assert lines[2].split() == ["y", "1"]


def _on_terminal(code: str) -> str:
    """What a program writes to a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    written = b"".join(_read(leader))
    os.close(leader)
    assert process.wait() == 0
    return written.decode()


def _read(descriptor: int) -> Iterator[bytes]:
    while True:
        try:
            data = os.read(descriptor, 65536)
        except OSError:  # the other end is closed
            return
        if not data:
            return
        yield data


def test_on_a_terminal_progress_is_a_bar_with_rate_and_time_left() -> None:
    """It begins anew with each stage, and where no total is known it says only what is done."""
    written = _on_terminal(
        "from runstream_sink.cli.progress import progress\n"
        "with progress('events') as report:\n"
        "    report('reading', 0, 10)\n"
        "    report('reading', 5, 10)\n"
        "    report('writing', 3, 0)\n"
    )
    assert "reading" in written
    assert "3 events" in written
    assert "events/s" in written


def test_on_a_terminal_a_table_fits_it() -> None:
    """Long cells are folded, nothing is lost."""
    written = _on_terminal("from runstream_sink.cli.output import print_table\nprint_table(('a',), [('x' * 300,)])\n")
    assert written.count("x") == 300
    assert max(line.count("x") for line in written.splitlines()) <= 120


def test_elsewhere_progress_is_a_line_from_time_to_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When something begins, and after each interval with rate and time left."""
    now = 100.0
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now)
    with progress("events", interval=5) as report:
        report("replaying", 0, 1000)
        now += 1
        report("replaying", 100, 1000)
        now += 9
        report("replaying", 500, 1000)
        now += 10
        report("replaying", 1000, 1000)
        report("checking", 0, 0)
        now += 10
        report("checking", 10, 0)
        report("waiting", 0, 7)
        now += 10
        report("waiting", 0, 7)
    assert capsys.readouterr().err.splitlines() == [
        "replaying",
        "replaying: 500 of 1,000 events, 50 events/s, 10.0 s left",
        "replaying: 1,000 of 1,000 events, 50 events/s",
        "checking",
        "checking: 10 events, 1 events/s",
        "waiting",
        "waiting: 0 of 7 events, 0 events/s",
    ]
