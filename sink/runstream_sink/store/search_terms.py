"""Terms of a search as SQLite's SQL: conditions on a run, and the runs that an index gives for one of them."""

# ruff: noqa: S608 - the SQL is put together of this module's own texts; what users wrote are parameters

import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from runstream_schemas.inputs import INPUT
from runstream_sink.store.search_plan import Kind, RunSearch, Term, Value

__all__ = ["NEVER", "PREFIX", "RUN_TABLES", "Builder", "compared", "run_attributes", "run_condition", "sources"]

NEVER: Final = "FALSE"
"""The condition that nothing meets."""
PREFIX: Final = 64
"""Characters of a text that stand in an index."""


class Values(NamedTuple):
    """Where the values of one kind lie, by run and key, and the index by key and value."""

    table: str
    by_value: str


RUN_TABLES: Final[Mapping[Kind, Values]] = {
    "metric": Values("latest_metrics", "latest_metrics_by_value"),
    "parameter": Values("params", "params_by_value"),
    "tag": Values("tags", "tags_by_value"),
}
_INPUT_KEYS: Final = f"SELECT id FROM keys WHERE name >= '{INPUT}' AND name < '{INPUT[:-1]}/'"
"""The tags that hold a run's inputs: `/` is the character behind the dot at the end of their prefix."""
_INPUT: Final = "iif(json_valid(h.value), h.value, '{}')"
"""Anything may have been set as such a tag."""
_CONTEXT: Final = "mlflow.data.context"
_INPUT_TAG: Final = "CASE c.type WHEN 'object' THEN c.value ELSE '{}' END"
_CONTEXTS: Final = f" JOIN json_each({_INPUT}, '$.tags') AS c ON json_extract({_INPUT_TAG}, '$.key') = '{_CONTEXT}'"
_RANGES: Final = frozenset({"=", "<", "<=", ">", ">="})
_encode: Final = msgspec.json.Encoder().encode


class Builder:
    """SQL in the making: its parameters, and the integers of the keys that it names."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.parameters: dict[str, Any] = {}
        self._keys: dict[str, int | None] = {}

    def add(self, value: Any) -> str:
        """The name of a new parameter with this value; a tuple becomes a JSON array."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = _encode(value).decode() if isinstance(value, tuple) else value
        return f":{name}"

    def key(self, name: str) -> int | None:
        """The integer of a key; None if nothing was ever logged under it."""
        if name not in self._keys:
            row = self.connection.execute("SELECT id FROM keys WHERE name = ?", (name,)).fetchone()
            self._keys[name] = row[0] if row else None
        return self._keys[name]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """All rows of a query with the parameters."""
        return self.connection.execute(sql, self.parameters).fetchall()


def run_attributes(builder: Builder, plan: RunSearch) -> dict[str, str]:
    """The expression of each attribute of the run ``r``."""
    before, behind = map(builder.add, plan.artifact_uri)
    return {
        "run_id": "r.run_id",
        "run_name": "r.name",
        "user_id": "r.user",
        "status": "r.status",
        "start_time": "r.start_time",
        "end_time": "r.end_time",
        "artifact_uri": f"({before} || r.run_id || {behind})",
    }


def compared(builder: Builder, expression: str, comparator: str, value: Value) -> str:
    """``expression`` compared with a value, as MLflow compares on SQLite: LIKE minds the case, ILIKE that of ASCII."""
    if comparator in {"IS NULL", "IS NOT NULL"}:
        return f"{expression} {comparator}"
    parameter = builder.add(value)
    if comparator in {"IN", "NOT IN"}:
        return f"{expression} {comparator} (SELECT value FROM json_each({parameter}))"
    if comparator == "ILIKE":
        return f"lower({expression}) LIKE lower({parameter})"
    return f"{expression} {comparator} {parameter}"


def run_condition(builder: Builder, term: Term, attributes: Mapping[str, str]) -> str:
    """The term as a condition on the run ``r``; `NEVER` where it is known before that no run meets it."""
    kind, key = term.field
    if kind == "dataset":
        return _dataset_condition(builder, term)
    if kind == "attribute":
        return _attribute_condition(builder, term, attributes[key])
    number = builder.key(key)
    if number is None:
        return "TRUE" if term.comparator == "IS NULL" else NEVER
    held = f"SELECT 1 FROM {RUN_TABLES[kind].table} AS h WHERE h.run = r.id AND h.key = {number}"
    if term.comparator == "IS NULL":
        return f"NOT EXISTS ({held} AND h.value IS NOT NULL)"
    condition = compared(builder, "h.value", term.comparator, term.value)
    if kind == "metric" and term.comparator == "!=":
        condition = f"({condition} OR h.value IS NULL)"  # NaN differs from every number
    return f"EXISTS ({held} AND {condition})"


def _dataset_condition(builder: Builder, term: Term) -> str:
    """One of the run's inputs, each of which a tag holds as JSON, is as the term says."""
    if not builder.rows(f"SELECT 1 FROM ({_INPUT_KEYS}) LIMIT 1"):
        return NEVER
    if term.field.key == "context":
        values, expression = _CONTEXTS, f"json_extract({_INPUT_TAG}, '$.value')"
    else:
        values, expression = "", f"json_extract({_INPUT}, '$.dataset.{term.field.key}')"
    condition = compared(builder, expression, term.comparator, term.value)
    return f"EXISTS (SELECT 1 FROM tags AS h{values} WHERE h.run = r.id AND h.key IN ({_INPUT_KEYS}) AND {condition})"


def _attribute_condition(builder: Builder, term: Term, expression: str) -> str:
    condition = compared(builder, expression, term.comparator, term.value)
    if term.field.key == "start_time" and term.comparator in _RANGES:
        # the same again for the column that the indexes have, which is never NULL
        return f"{condition} AND {compared(builder, 'r.sort_time', term.comparator, term.value)}"
    return condition


def sources(builder: Builder, plan: RunSearch) -> Iterator[str]:
    """Selects of the column ``run``, each run once, that give all runs of the search and perhaps others."""
    if plan.experiments is not None:
        ids = builder.add(plan.experiments)
        yield (
            "SELECT id AS run FROM runs INDEXED BY runs_by_experiment "
            f"WHERE experiment_id IN (SELECT value FROM json_each({ids}))"
        )
    for term in plan.terms:
        if term.field.kind == "attribute":
            yield from _by_attribute(builder, term)
        elif term.field.kind == "dataset":
            yield f"SELECT DISTINCT run FROM tags INDEXED BY tags_by_value WHERE key IN ({_INPUT_KEYS})"
        elif term.comparator != "IS NULL":
            yield _by_value(builder, term)


def _by_attribute(builder: Builder, term: Term) -> Iterator[str]:
    if term.field.key == "run_id" and term.comparator in {"=", "IN"}:
        yield f"SELECT id AS run FROM runs WHERE {compared(builder, 'run_id', term.comparator, term.value)}"
    if term.field.key == "start_time" and term.comparator in _RANGES:
        condition = compared(builder, "sort_time", term.comparator, term.value)
        yield f"SELECT id AS run FROM runs INDEXED BY runs_by_time WHERE {condition}"


def _by_value(builder: Builder, term: Term) -> str:
    kind, key = term.field
    table, index = RUN_TABLES[kind]
    bounds = _bounds(builder, term)
    where = " AND ".join([f"key = {builder.key(key)}", *bounds])
    return f"SELECT run FROM {table} INDEXED BY {index} WHERE {where}"


def _bounds(builder: Builder, term: Term) -> Iterator[str]:
    """What an index can say of a term's value."""
    value = term.value
    if term.field.kind == "metric":
        if term.comparator in _RANGES:
            yield compared(builder, "value", term.comparator, value)
        return
    held = f"substr(value, 1, {PREFIX})"
    if term.comparator == "=":
        yield f"{held} = substr({builder.add(value)}, 1, {PREFIX})"
    elif term.comparator == "LIKE" and (start := _literal_start(str(value))):
        yield f"{held} >= {builder.add(start)}"
        if (end := _behind(start)) is not None:
            yield f"{held} < {builder.add(end)}"


def _literal_start(pattern: str) -> str:
    """The characters that every text begins with that is LIKE ``pattern``."""
    ends = [at for at in map(pattern.find, "%_\0") if at >= 0]
    return pattern[: min([*ends, PREFIX])]


def _behind(start: str) -> str | None:
    """A text that is greater than all that begin with ``start``."""
    last = ord(start[-1]) + 1
    return None if last > 0x10FFFF or 0xD800 <= last <= 0xDFFF else start[:-1] + chr(last)
