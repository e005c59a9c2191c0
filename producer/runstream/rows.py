"""Rows on their way into events: redaction, then sampling, then the claim check of large cells."""

from collections.abc import Iterator, Mapping
from typing import Any

from runstream import tables
from runstream.claims import Claims
from runstream.client import Client
from runstream_schemas.errors import InvalidInputError

__all__ = ["log_large_row", "log_table", "shape"]


def shape(client: Client, run_id: str, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row to log in place of ``row``; None if it is left out of the sample."""
    if not client.samples_run(run_id):
        client.rows_left_out.add()
        return None
    row = _redacted(client, row)
    if client.sampling is None or client.sampling.keeps_row(list(row), list(row.values())):
        return row
    client.rows_left_out.add()
    return None


def log_table(client: Client, run_id: str, table: str, data: Any) -> None:
    """Log rows that are given in any form that `tables.to_columns` takes."""
    for block in tables.to_columns(data):
        blocks = _shaped(client, run_id, block) if client.shapes_rows else [block]
        for columns, rows in blocks:
            for body in tables.split(run_id, table, columns, rows, client.encoder, claims=_claims(client, run_id)):
                client.emit_body(body)


def log_large_row(client: Client, run_id: str, table: str, columns: list[str], row: list[Any]) -> None:
    """Log a row whose event is larger than ``claim_size``."""
    for body in tables.split(run_id, table, columns, [row], client.encoder, claims=_claims(client, run_id)):
        client.emit_body(body)


def _shaped(client: Client, run_id: str, block: tables.Block) -> Iterator[tables.Block]:
    if not client.samples_run(run_id):
        client.rows_left_out.add(len(block.rows))
        return
    blocks = [block]
    if client.redact is not None:
        redacted = [_redacted(client, dict(zip(block.columns, row, strict=True))) for row in block.rows]
        blocks = tables.to_columns(redacted)
    sampling = client.sampling
    if sampling is None:
        yield from blocks
        return
    for columns, rows in blocks:
        kept = [row for row in rows if sampling.keeps_row(columns, row)]
        client.rows_left_out.add(len(rows) - len(kept))
        yield tables.Block(columns, kept)


def _claims(client: Client, run_id: str) -> Claims:
    return Claims(run_id, client.config.claim_size, client.encoder, client.staging, client.emit, client.count_drop)


def _redacted(client: Client, row: Mapping[str, Any]) -> Mapping[str, Any]:
    redact = client.redact
    row = row if redact is None else redact(dict(row))
    if not isinstance(row, Mapping):
        raise InvalidInputError(f"the redact hook must return the row as a dict, not {type(row).__name__}")
    return row
