"""Searches beside a model that reads the definitions and no index: any filter, any order, any page, either way."""

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cmp_to_key
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_schemas import events as ev
from runstream_sink import query
from runstream_sink.store import search_sql
from support.stores import batch, ingest, opened, reading, run_id

KEYS = ["a", "b"]
TEXTS = ["", "x", "X", "xy", "x%", "é", "x" * 64, "x" * 64 + "a", "x\0y", "y"]
NUMBERS = [0.0, -0.0, 1.0, 2.0, math.inf, -math.inf, math.nan]
COMPARE = {
    "=": lambda held, value: held == value,
    "!=": lambda held, value: held != value,
    "<": lambda held, value: held < value,
    "<=": lambda held, value: held <= value,
    ">": lambda held, value: held > value,
    ">=": lambda held, value: held >= value,
}


@dataclass
class Run:
    """What a run logged."""

    number: int
    start: int | None
    end: int | None
    experiment: int
    deleted: bool
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)

    def events(self) -> Iterator[Any]:
        """The events that make it."""
        if self.start is not None:
            yield ev.RunStarted(run_id(self.number), str(self.experiment), self.start)
        yield ev.ParamsLogged(run_id(self.number), self.params)
        yield ev.MetricsLogged(run_id(self.number), self.metrics, 0, 0)
        if self.end is not None:
            yield ev.RunEnded(run_id(self.number), "FINISHED", self.end)
        if self.deleted:
            yield ev.RunDeleted(run_id(self.number))

    def value(self, name: str) -> Any:
        """The value of a field; None if there is none."""
        kind, _, key = name.rpartition(".")
        if kind == "metrics":
            return self.metrics.get(key)
        if kind == "params":
            return self.params.get(key)
        return {"start_time": self.start, "end_time": self.end, "run_id": run_id(self.number)}[key]


Terms = list[tuple[str, str, Any]]
Orders = list[tuple[str, bool]]

TIMES = st.none() | st.integers(0, 3)
RUN = st.builds(
    Run,
    number=st.just(0),
    start=TIMES,
    end=TIMES,
    experiment=st.integers(1, 3),
    deleted=st.sampled_from([False, False, True]),
    metrics=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(NUMBERS)),
    params=st.dictionaries(st.sampled_from(KEYS), st.sampled_from(TEXTS)),
)
TERM = st.one_of(
    st.tuples(
        st.sampled_from(["metrics.a", "metrics.b", "metrics.c"]),
        st.sampled_from([*COMPARE]),
        st.sampled_from([0.0, 1.0]),
    ),
    st.tuples(st.sampled_from(["params.a", "params.b"]), st.sampled_from(["=", "!="]), st.sampled_from(TEXTS)),
    st.tuples(st.sampled_from(["start_time", "end_time"]), st.sampled_from([*COMPARE]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["params.a", "params.c"]), st.sampled_from(["IS NULL", "IS NOT NULL"]), st.none()),
)
FIELDS = ["metrics.a", "metrics.b", "metrics.c", "params.a", "params.b", "params.c", "start_time", "end_time", "run_id"]
ORDER = st.lists(st.tuples(st.sampled_from(FIELDS), st.booleans()), max_size=3, unique_by=lambda order: order[0])


def meets(run: Run, term: tuple[str, str, Any]) -> bool:
    """Whether a run meets a term."""
    name, comparator, value = term
    held = run.value(name)
    if comparator.startswith("IS"):
        return (held is None) == (comparator == "IS NULL")
    return held is not None and bool(COMPARE[comparator](held, value))


def compared(orders: Orders, one: Run, other: Run) -> int:
    """Which of two runs comes first."""
    newest = [] if any(name == "start_time" for name, _ in orders) else [("start_time", True)]
    for name, descending in [*orders, *newest]:
        ranks = [rank(run.value(name)) for run in (one, other)]
        if ranks[0] != ranks[1]:
            return ranks[0] - ranks[1]
        if ranks[0] == 0 and (left := one.value(name)) != (right := other.value(name)):
            return 1 if _bytes(left > right, left, right) != descending else -1
    return one.number - other.number


def _bytes(greater: bool, left: Any, right: Any) -> bool:
    """Texts are compared by their bytes."""
    return left.encode() > right.encode() if isinstance(left, str) else greater


def rank(value: Any) -> int:
    """Numbers and texts, then NaN, then what is not there."""
    return 2 if value is None else int(isinstance(value, float) and math.isnan(value))


def expected(runs: list[Run], terms: Terms, orders: Orders, experiments: list[int] | None, lifecycle: str) -> list[int]:
    """The numbers of the runs that a search finds."""
    found = [
        run
        for run in runs
        if all(meets(run, term) for term in terms)
        and (experiments is None or (run.start is not None and run.experiment in experiments))
        and lifecycle in {"all", "deleted" if run.deleted else "active"}
    ]
    return [run.number for run in sorted(found, key=cmp_to_key(lambda one, other: compared(orders, one, other)))]


async def found(directory: Path, runs: list[Run], asked: list[tuple[Any, ...]]) -> list[list[int]]:
    """What the store finds for each search, in pages, looking at few and walking in turn."""
    async with opened(directory) as store:
        await ingest(store, [batch(b"p" * 16, [event for run in runs for event in run.events()])])
    answers = []
    async with reading(directory) as reader:
        for terms, orders, experiments, lifecycle, limit, few in asked:
            search_sql._FEW = few
            numbers: list[int] = []
            cursor = None
            while True:
                page = await query.search_runs(
                    reader,
                    None if experiments is None else [str(number) for number in experiments],
                    " AND ".join(written(term) for term in terms),
                    [f"{name} {'DESC' if descending else 'ASC'}" for name, descending in orders],
                    lifecycle,
                    limit,
                    cursor,
                )
                numbers += [int(run.run_id, 16) for run in page.runs]
                cursor = page.cursor
                if cursor is None:
                    break
            answers.append(numbers)
    return answers


def written(term: tuple[str, str, Any]) -> str:
    """A term as a text."""
    name, comparator, value = term
    if value is None:
        return f"{name} {comparator}"
    return f"{name} {comparator} {value!r}" if not isinstance(value, str) else f"{name} {comparator} '{value}'"


ASKED = st.tuples(
    st.lists(TERM, max_size=2),
    ORDER,
    st.none() | st.lists(st.integers(1, 4), max_size=2),
    st.sampled_from(["all", "active", "deleted"]),
    st.sampled_from([1, 3, 100]),
    st.sampled_from([0, 4000]),
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(RUN, max_size=12), st.lists(ASKED, min_size=1, max_size=6))
def test_a_search_finds_what_its_definition_says(
    tmp_path_factory: pytest.TempPathFactory, runs: list[Run], asked: list[tuple[Any, ...]]
) -> None:
    """In the order that is defined, whatever the pages and the way."""
    for number, run in enumerate(runs, 1):
        run.number = number
    few = search_sql._FEW
    try:
        answers = asyncio.run(found(tmp_path_factory.mktemp("store"), runs, asked))
    finally:
        search_sql._FEW = few
    assert answers == [expected(runs, *one[:4]) for one in asked]
