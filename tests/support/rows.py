"""Rows as they come back from the wire."""

from typing import Any

from runstream_schemas.events import RowsLogged, decode_event
from runstream_schemas.values import RowEncoder

__all__ = ["RUN", "trip"]

RUN = "0" * 32


def trip(*cells: Any) -> tuple[list[Any], int]:
    """The cells after encoding and decoding, and how many values were given up."""
    encoder = RowEncoder()
    columns = [f"c{index}" for index in range(len(cells))]
    event = decode_event(encoder.encode(RowsLogged(RUN, "t", columns, [list(cells)])))
    assert isinstance(event, RowsLogged)
    return event.rows[0], encoder.converted
