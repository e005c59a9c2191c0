"""Searches on SQLite.

A page of runs is found in one of two ways.  If an index says that few runs can meet one of the terms, these are
looked at, and sorted.  Else runs are walked through in the order that is asked for, and looked at until the page is
full: that is fast because no term is rare.  Of N runs, c of which meet a term, about limit * N / c are walked through
for a page, so c is few where it is less than that.  Both take a time that hardly depends on how many runs there are;
only terms that are frequent each and never true together, and orders by what no index has, make it look at every run.
"""

# ruff: noqa: S608 - the SQL is put together of this module's own texts; what users wrote are parameters

import sqlite3
from collections.abc import Sequence
from itertools import chain
from math import isqrt
from typing import Any, Final

from runstream_sink.store.search_order import Column, Key, Walk, behind, order_by, order_keys, walks
from runstream_sink.store.search_plan import (
    ExperimentSearch,
    Field,
    Order,
    Placed,
    RunSearch,
    SearchPlan,
    ordered_experiments,
    ordered_runs,
)
from runstream_sink.store.search_terms import NEVER, Builder, compared, run_attributes, run_condition, sources

__all__ = ["search"]

_FEW: Final = 4_000
"""More runs are not looked at one by one, nor counted."""
_VERY_FEW: Final = 500
"""Runs that always are looked at: to walk may take longer than expected, to look at them does not."""
_LIFECYCLE: Final = """CASE
  WHEN e.lifecycle_ord IS NOT NULL AND (r.lifecycle_ord IS NULL OR e.lifecycle_ord > r.lifecycle_ord) THEN e.lifecycle
  ELSE coalesce(r.lifecycle, 'active')
END"""
_RUN: Final = (
    "r.run_id, CAST(r.experiment_id AS TEXT), r.name, r.user, r.status, r.start_time, r.end_time, " + _LIFECYCLE
)
_RUN_WIDTH: Final = 8
_EXPERIMENT_OF_RUN: Final = "LEFT JOIN experiments AS e ON e.id = r.experiment_id"
_LAST: Final = Column("r.run_id")
_BY_TIME: Final = Field("attribute", "start_time")
_EXPERIMENT_ATTRIBUTES: Final = {
    "experiment_id": "e.id",
    "name": "e.name",
    "creation_time": "e.creation_time",
    "last_update_time": "last_update(e.creation_time, e.renamed_ord, e.lifecycle_ord)",
}
_EXPERIMENT: Final = (
    "CAST(e.id AS TEXT), e.name, e.creation_time, coalesce(e.lifecycle, 'active'), "
    + _EXPERIMENT_ATTRIBUTES["last_update_time"]
)
_EXPERIMENT_WIDTH: Final = 5
_KNOWN: Final = """(
  e.id = 0 OR e.created_ord IS NOT NULL OR e.renamed_ord IS NOT NULL OR e.lifecycle_ord IS NOT NULL
  OR EXISTS (SELECT 1 FROM runs AS r WHERE r.experiment_id = e.id)
  OR EXISTS (SELECT 1 FROM experiment_tags AS t WHERE t.experiment = e.id AND t.value IS NOT NULL)
)"""


def search(connection: sqlite3.Connection, plan: SearchPlan) -> list[Placed]:
    """The rows of a search, in its order; its statements all see the same state of the store."""
    alone = not connection.in_transaction
    if alone:
        connection.execute("BEGIN")
    try:
        return _RunQuery(connection, plan).rows() if isinstance(plan, RunSearch) else _experiments(connection, plan)
    finally:
        if alone:
            connection.execute("COMMIT")


class _RunQuery:
    """One page of runs."""

    def __init__(self, connection: sqlite3.Connection, plan: RunSearch) -> None:
        self._builder = builder = Builder(connection)
        self._plan = plan
        attributes = run_attributes(builder, plan)
        self._keys = order_keys(builder, ordered_runs(plan.order), attributes)
        self._conditions = [run_condition(builder, term, attributes) for term in plan.terms]
        if plan.experiments is not None:
            self._conditions.append(self._in_experiments(plan.experiments))
        if plan.lifecycle is not None:
            self._conditions.append(f"{_LIFECYCLE} = {builder.add(plan.lifecycle)}")

    def _in_experiments(self, ids: tuple[int, ...]) -> str:
        if not ids:
            return NEVER
        if len(ids) == 1:
            return f"r.experiment_id = {ids[0]}"
        return f"+r.experiment_id IN (SELECT value FROM json_each({self._builder.add(ids)}))"

    def rows(self) -> list[Placed]:
        """The page."""
        if NEVER in self._conditions:
            return []
        first, *others = self._keys
        parts = list(walks(self._builder, first.order))
        source = self._rarest(self._few() if parts else _FEW)
        if source is not None:
            return self._sorted(f"({source}) AS found CROSS JOIN runs AS r ON r.id = found.run")
        if not parts:
            return self._sorted("runs AS r")
        rows: list[Placed] = []
        for part in parts:
            if len(rows) < self._plan.limit:
                rows += self._walked(part, others, self._plan.limit - len(rows))
        return rows

    def _few(self) -> int:
        """Runs that are rather looked at one by one than walked through in the order of the page."""
        ((runs,),) = self._builder.rows("SELECT coalesce(max(id), 0) FROM runs")
        return min(_FEW, max(_VERY_FEW, isqrt(self._plan.limit * runs)))

    def _rarest(self, few: int) -> str | None:
        """The source with the fewest runs, if there is one with ``few`` at most."""
        rarest, least = None, few + 1
        for source in sources(self._builder, self._plan):
            ((count,),) = self._builder.rows(f"SELECT count(*) FROM (SELECT 1 FROM ({source}) LIMIT {least})")
            if count < least:
                rarest, least = source, count
        return rarest

    def _sorted(self, source: str) -> list[Placed]:
        """The page from runs that come in any order."""
        columns = [*chain.from_iterable(key.columns for key in self._keys), _LAST]
        after = self._plan.after
        where = [] if after is None else [behind(self._builder, columns, after)]
        return self._select(source, self._keys, where, columns, order_by(columns), self._plan.limit)

    def _walked(self, part: Walk, others: Sequence[Key], limit: int) -> list[Placed]:
        """What one part of the order has for the page."""
        after = self._plan.after
        if after is not None and part.rank is not None and part.rank < after[0]:
            return []
        columns = [*part.columns, *chain.from_iterable(key.columns for key in others), _LAST]
        where = [part.condition]
        if after is not None and (part.rank is None or part.rank == after[0]):
            where += self._bound(part, after[1])
            where.append(behind(self._builder, columns, after))
        order = order_by(columns if part.lead is None else [part.lead, *columns])
        return self._select(part.source or self._all_runs(others), others, where, columns, order, limit)

    def _bound(self, part: Walk, value: Any) -> list[str]:
        """Where a coarser column of an index begins."""
        if part.lead is None:
            return []
        begin = part.lead.expression.replace("o0.value", self._builder.add(value))
        return [f"{part.lead.expression} {'<=' if part.lead.descending else '>='} {begin}"]

    def _all_runs(self, others: Sequence[Key]) -> str:
        """All runs, in the order of their time if that is what is left to order by."""
        first = self._keys[0].order
        order = first if first.field == _BY_TIME else others[0].order
        if order.field != _BY_TIME:
            return "runs AS r"
        one = self._plan.experiments is not None and len(self._plan.experiments) == 1
        return f"runs AS r INDEXED BY {'runs_by_experiment' if one else 'runs_by_time'}"

    def _select(
        self, source: str, keys: Sequence[Key], where: list[str], columns: Sequence[Column], order: str, limit: int
    ) -> list[Placed]:
        joins = " ".join(key.join for key in keys)
        place = ", ".join(f"{column.expression} AS k{number}" for number, column in enumerate(columns))
        conditions = " AND ".join([*where, *self._conditions]) or "TRUE"
        # What is sorted is narrow: the rest of a row is fetched for the page alone, in the order of the page.
        rows = self._builder.rows(
            f"WITH page AS MATERIALIZED (SELECT r.id, {place} FROM {source} {_EXPERIMENT_OF_RUN} {joins} "
            f"WHERE {conditions} ORDER BY {order} LIMIT {limit}) "
            f"SELECT {_RUN}, page.* FROM page CROSS JOIN runs AS r ON r.id = page.id {_EXPERIMENT_OF_RUN}"
        )
        return [Placed(row[:_RUN_WIDTH], row[_RUN_WIDTH + 1 :]) for row in rows]


def _experiments(connection: sqlite3.Connection, plan: ExperimentSearch) -> list[Placed]:
    builder = Builder(connection)
    conditions = [_KNOWN]
    for (kind, key), comparator, value in plan.terms:
        if kind == "attribute":
            conditions.append(compared(builder, _EXPERIMENT_ATTRIBUTES[key], comparator, _as_id(key, value)))
        else:
            conditions.append(_tag_condition(builder, builder.key(key), comparator, value))
    if plan.lifecycle is not None:
        conditions.append(f"coalesce(e.lifecycle, 'active') = {builder.add(plan.lifecycle)}")
    columns = list(chain.from_iterable(map(_experiment_columns, ordered_experiments(plan.order))))
    if plan.after is not None:
        conditions.append(behind(builder, columns, plan.after))
    rows = builder.rows(
        f"SELECT {_EXPERIMENT}, {', '.join(column.expression for column in columns)} FROM experiments AS e "
        f"WHERE {' AND '.join(conditions)} ORDER BY {order_by(columns)} LIMIT {plan.limit}"
    )
    return [Placed(row[:_EXPERIMENT_WIDTH], row[_EXPERIMENT_WIDTH:]) for row in rows]


def _as_id(key: str, value: Any) -> Any:
    """The value of an ``experiment_id`` as the integer that it is in the store; others as they are."""
    if key != "experiment_id":
        return value
    return tuple(map(int, value)) if isinstance(value, tuple) else int(value)


def _tag_condition(builder: Builder, key: int | None, comparator: str, value: Any) -> str:
    if key is None:
        return "TRUE" if comparator == "IS NULL" else NEVER
    held = f"SELECT 1 FROM experiment_tags AS t WHERE t.experiment = e.id AND t.key = {key}"
    if comparator == "IS NULL":
        return f"NOT EXISTS ({held} AND t.value IS NOT NULL)"
    return f"EXISTS ({held} AND {compared(builder, 't.value', comparator, value)})"


def _experiment_columns(order: Order) -> tuple[Column, Column]:
    """Without a value comes first, and last if the order descends, as SQLite orders NULL."""
    expression = _EXPERIMENT_ATTRIBUTES[order.field.key]
    return Column(f"({expression} IS NOT NULL)", order.descending), Column(expression, order.descending)
