"""What commands print: JSON, and tables for people.  Only data goes to standard output."""

import datetime
import io
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

__all__ = ["clean", "duration", "lines", "note", "number", "print_json", "print_table", "size", "time_of"]

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_WIDE: Final = 1 << 15
"""Columns where no terminal limits them: nothing is cut or wrapped."""
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_NOT_FINITE: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def print_json(value: Any) -> None:
    """One JSON document; bytes are base64, and numbers that JSON lacks are texts (``"NaN"``, ``"Infinity"``)."""
    encoded = msgspec.json.encode(_finite(msgspec.to_builtins(value)))
    lines([msgspec.json.format(encoded, indent=2).decode()])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return _NOT_FINITE[repr(value)]
    return value


def lines(texts: Iterable[str]) -> None:
    """Lines to standard output."""
    for text in texts:
        sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """A line for people, to standard error."""
    sys.stderr.write(f"{text}\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table of texts, with a header unless all ``columns`` are empty; None is an empty cell."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else clean(str(cell))) for cell in row))
    if sys.stdout.isatty():
        Console(highlight=False).print(table)
        return
    console = Console(width=_WIDE, file=io.StringIO(), highlight=False)
    with console.capture() as capture:
        console.print(table)
    lines(line.rstrip() for line in capture.get().splitlines())


def clean(text: str) -> str:
    """A text of somebody's, without what a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def number(value: float | None) -> str | None:
    """A metric's value."""
    return None if value is None else _NOT_FINITE.get(repr(value), repr(value))


def time_of(milliseconds: int | None) -> str | None:
    """Milliseconds since the epoch as UTC; what no calendar holds stays a number."""
    if milliseconds is None:
        return None
    try:
        moment = _EPOCH + datetime.timedelta(milliseconds=milliseconds)
    except OverflowError:
        return str(milliseconds)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds for people."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
