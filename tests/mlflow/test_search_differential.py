"""The same searches to MLflow's own store and to ours: the same runs in the same order, and errors for the same texts.

What is known to differ is not asked (see docs/mlflow.md): infinities as values to compare with, IN for other
attributes than run_id, exponents such as ``1e+5``, keywords as keys without quotes, and comparators in small letters
for experiments.
"""

import asyncio
import json
import math
import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runstream_schemas import events as ev
from runstream_schemas.batch import Batch
from runstream_schemas.errors import InvalidInputError
from runstream_sink import query
from support.mlflow import mlflow_python
from support.stores import ingest, opened, reading, record, run_id

pytestmark = pytest.mark.server

HERE = Path(__file__).parent
RUNS = 40
METRICS = ["loss", "a b", "acc/top-1", "é"]
PARAMS = ["model", "lr", "a.b", "x y:z"]
TAGS = ["team", "t t", "mlflow.source.name"]
NUMBERS = [0.0, -0.0, 1.0, 1.5, -2.0, 1e300, 1e-300, math.nan, math.inf, -math.inf]
TEXTS = [
    "",
    "a",
    "A",
    "ab",
    "a%b",
    "a_b",
    "aXb",
    "it's",
    'say "x"',
    "é",
    "É",
    "0.1",
    "x" * 64,
    "x" * 64 + "y",
    "名",
    "a\nb",
]
STATUSES = ["RUNNING", "FINISHED", "FAILED", "KILLED", "SCHEDULED"]
NAMES = ["one", "One", "two words", "it's", "x" * 70]
EXPERIMENTS = ["first", "First", "a%b", "日本"]


class Both:
    """MLflow's store in a process of its own, and ours."""

    def __init__(self, python: Path, directory: Path, seed: int) -> None:
        command = [str(python), str(HERE / "search_oracle.py"), str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.store = directory / "store"
        self.experiments: list[dict[str, Any]] = []
        self._logged = made_up(random.Random(seed))

    def fill(self) -> None:
        """Log the same to both."""
        self.experiments = self._ask(self._logged)
        asyncio.run(self._fill(self._logged))

    def close(self) -> None:
        """End MLflow's process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(60) == 0
        self._process.stdout.close()

    def compare(self, asked: dict[str, Any], page: int) -> None:
        """Ask both, us in pages of this many."""
        theirs = self._ask(asked)
        if "error" in theirs:
            with pytest.raises(InvalidInputError):
                asyncio.run(self._search(asked, page))
        else:
            assert asyncio.run(self._search(asked, page)) == theirs["found"]

    def _ask(self, document: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(document) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    async def _search(self, asked: dict[str, Any], page: int) -> list[str]:
        async with reading(self.store) as reader:
            search: Any = partial(query.search_experiments, reader)
            if asked["of"] == "runs":
                search = partial(query.search_runs, reader, asked["experiments"])
            search = partial(search, asked["filter"], asked["order_by"], asked["lifecycle"], page)
            found: list[str] = []
            cursor = None
            while True:
                got = await search(cursor)
                if asked["of"] == "runs":
                    found += [run.run_id for run in got.runs]
                else:
                    found += [experiment.experiment_id for experiment in got.experiments]
                cursor = got.cursor
                if cursor is None:
                    return found

    async def _fill(self, logged: dict[str, Any]) -> None:
        ids = [experiment["id"] for experiment in self.experiments[1:]]
        default = self.experiments[0]
        events: list[tuple[Any, int]] = [(ev.ExperimentCreated("0", "Default", default["created"]), 1)]
        for experiment, name in zip(self.experiments[1:], logged["experiments"], strict=True):
            events.append((ev.ExperimentCreated(experiment["id"], name, experiment["created"]), 1))
            if experiment["name"] != name:
                renamed = ev.ExperimentRenamed(experiment["id"], experiment["name"])
                events.append((renamed, experiment["updated"] * 1_000_000))
        events += [(ev.ExperimentTagsSet(ids[at], {key: value}), 1) for at, key, value in logged["experiment_tags"]]
        for run in logged["runs"]:
            events += [(event, 1) for event in _events(run, ids)]
        records = [record(seq, event, at + seq) for seq, (event, at) in enumerate(events)]
        async with opened(self.store) as store:
            await ingest(store, [Batch(b"p" * 16, records, [])])


def _events(run: dict[str, Any], ids: list[str]) -> Iterator[Any]:
    yield ev.RunStarted(run["run_id"], ids[run["experiment"]], run["start_time"], run["name"], run["user"])
    yield ev.ParamsLogged(run["run_id"], run["params"])
    yield ev.TagsSet(run["run_id"], run["tags"])
    for key, value in run["metrics"].items():
        yield ev.MetricLogged(run["run_id"], key, float(value), 0, 1)
    if run["end_time"] is not None:
        yield ev.RunEnded(run["run_id"], run["status"], run["end_time"])
    else:
        yield ev.RunUpdated(run["run_id"], status=run["status"])
    if run["deleted"]:
        yield ev.RunDeleted(run["run_id"])


def made_up(chance: random.Random) -> dict[str, Any]:
    """A few dozen runs, many of which are alike in much."""

    def some(keys: list[str], values: list[Any]) -> dict[str, Any]:
        return {key: chance.choice(values) for key in keys if chance.random() < 0.7}

    def ended(status: str) -> int | None:
        return chance.choice([5000, 6000]) if status not in {"RUNNING", "SCHEDULED"} else None

    statuses = [chance.choice(STATUSES) for _ in range(RUNS)]
    runs = [
        {
            "run_id": run_id(number + 1)[::-1],
            "experiment": chance.choice([0, 0, 0, 1, 2]),
            "start_time": chance.choice([1000, 2000, 3000, 4000 + number]),
            "end_time": ended(status),
            "user": chance.choice(["me", "you"]),
            "name": chance.choice(NAMES),
            "status": status,
            "metrics": {key: repr(value) for key, value in some(METRICS, NUMBERS).items()},
            "params": some(PARAMS, TEXTS),
            "tags": some(TAGS, TEXTS),
            "deleted": chance.random() < 0.15,
        }
        for number, status in enumerate(statuses)
    ]
    tags = [[0, "team", "a"], [1, "team", "A"], [2, "t t", "it's"], [3, "team", "b"]]
    return {"experiments": EXPERIMENTS, "runs": runs, "renamed": {"1": "Second"}, "experiment_tags": tags}


def quoted_key(key: str) -> st.SearchStrategy[str]:
    """A key in one of the ways to write it."""
    ways = [f"`{key}`", f'"{key}"']
    return st.sampled_from([*ways, key] if key.replace(".", "").replace("_", "").isalnum() else ways)


def quoted(text: str) -> str:
    """A text as a value; what has quotes of both kinds cannot be written."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def key_of(keys: list[str], *entities: str) -> st.SearchStrategy[str]:
    """A field of one of the keys, or of one that nothing has."""
    key = st.sampled_from([*keys, "nobody"]).flatmap(quoted_key)
    return st.builds("{}.{}".format, st.sampled_from(entities), key)


NUMBER = st.sampled_from(
    ["0", "1", "1.0", "1.5", "-2", "1e300", ".5", "2.", "-0.0", "5e-1", "1000", "3000", "5000", "4010"]
)
TEXT = st.sampled_from([*TEXTS[:-1], "a%", "%b", "_b", "%", "A%", "%É%", "x%", "x" * 64 + "%", "a_b%"]).map(quoted)
COMPARATOR = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "LIKE", "ILIKE", "like", "Ilike"])
METRIC = key_of(METRICS, "metrics", "metric")
PARAM = key_of(PARAMS, "params", "param", "parameter", "parameters")
TAG = key_of([*TAGS, "mlflow.runName"], "tags", "tag")
ATTRIBUTES = ["run_id", "run_name", "status", "user_id", "start_time", "end_time", "created"]
ATTRIBUTE = st.builds("{}{}".format, st.sampled_from(["", "attributes.", "attr.", "run."]), st.sampled_from(ATTRIBUTES))
DATASET = st.sampled_from(["dataset.name", "datasets.digest", "datasets.context", "dataset.nothing"])
IDS = st.lists(st.integers(1, RUNS + 2).map(lambda n: f"'{run_id(n)[::-1]}'"), min_size=1, max_size=30).map(", ".join)
ANY_FIELD = st.one_of(METRIC, PARAM, TAG, ATTRIBUTE, DATASET, st.sampled_from(["name", "foo.bar", "Metrics.loss"]))
ATTRIBUTE_TEXT = st.sampled_from([*STATUSES, "running", "me", "one", "one%", "%O%", *NAMES]).map(quoted)
TERM = st.one_of(
    st.builds("{} {} {}".format, METRIC, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NUMBER),
    st.builds("{} {} {}".format, PARAM | TAG, st.sampled_from(["=", "!=", "LIKE", "ILIKE", "like"]), TEXT),
    st.builds("{} {}".format, PARAM | TAG, st.sampled_from(["IS NULL", "IS NOT NULL", "is null", "is not null"])),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(ATTRIBUTES[:4]),
        st.sampled_from(["=", "!=", " LIKE ", " ILIKE "]),
        ATTRIBUTE_TEXT,
    ),
    st.builds(
        "{} {} {}".format, st.sampled_from(ATTRIBUTES[4:]), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), NUMBER
    ),
    st.builds("attributes.run_id {} ({})".format, st.sampled_from(["IN", "NOT IN", "in"]), IDS),
)
ODD_TERM = st.one_of(
    st.builds("{} {} {}".format, ANY_FIELD, COMPARATOR, NUMBER | TEXT),
    st.sampled_from(
        ["OR", "metrics.loss", "params.model = x", "metrics.loss > '1'", "metrics.loss IS NULL", "(a = 1)"]
    ),
    st.sampled_from(["params.model == 'a'", "params.model RLIKE 'a'", "run_id IN ()", "params.model IN ('a')", ";"]),
)
FILTER = st.lists(TERM, min_size=0, max_size=3).map(" AND ".join)
ODD_FILTER = st.builds(
    "{}{}{}".format, FILTER.filter(bool), st.sampled_from([" AND ", " and ", "\nAND\n", " "]), ODD_TERM
)
DIRECTION = st.sampled_from(["", " ASC", " DESC", " desc"])
ORDER_KEY = st.builds(
    "{}{}".format, METRIC | PARAM | TAG.filter(lambda tag: "runName" not in tag) | ATTRIBUTE, DIRECTION
)
ODD_KEY = st.sampled_from(["foo", "dataset.name", "metrics.loss DOWN", "a, b", "run name", "metrics.a-b", ""])
ORDER = st.lists(ORDER_KEY, max_size=3)
E_FIELD = st.sampled_from(
    ["name", "attribute.name", "creation_time", "last_update_time", "tags.team", "tag.`t t`", "experiment_id"]
)
E_TERM = st.builds(
    "{} {} {}".format, E_FIELD, st.sampled_from(["=", "!=", "<", ">=", "LIKE", "ILIKE"]),
    st.sampled_from(
        ["'first'", "'First'", "'a%'", "'A'", "'b'", '"it\'s"', "'%s%'", "0", "5.5", "1764000000000", "'1'", "'x'"]
    ),
)  # fmt: skip
E_ODD = st.sampled_from(
    [
        "tags.team IS NULL",
        "tags.team IS NOT NULL",
        "name IS NULL",
        "metrics.a = 1",
        "attributes.name = 'x'",
        "experiment_id IN ('1', '2')",
    ]
)
E_ORDER = st.builds(
    "{}{}".format, st.sampled_from(["name", "creation_time", "last_update_time", "experiment_id", "tags.a"]), DIRECTION
)


@pytest.fixture(scope="module", params=[1, 2])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both stores with the same in them."""
    both = Both(mlflow_python(), tmp_path_factory.mktemp("mlflow"), request.param)
    try:
        both.fill()
        yield both
    finally:
        both.close()


often = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@given(st.data())
def test_searches_of_runs_find_what_mlflow_finds(both: Both, data: st.DataObject) -> None:
    """Filters and orders that are right, in pages of any size."""
    ids = [experiment["id"] for experiment in both.experiments]
    asked = {
        "of": "runs",
        "experiments": data.draw(st.sampled_from([ids, ids[1:2], ids[1:3], ["424242"], []])),
        "filter": data.draw(FILTER),
        "order_by": data.draw(ORDER),
        "lifecycle": data.draw(st.sampled_from(["active", "deleted", "all"])),
    }
    both.compare(asked, data.draw(st.sampled_from([1, 7, 1000])))


@often
@given(st.data())
def test_searches_that_mlflow_refuses_are_refused(both: Both, data: st.DataObject) -> None:
    """Texts that may be wrong."""
    asked = {
        "of": "runs",
        "experiments": [experiment["id"] for experiment in both.experiments],
        "filter": data.draw(ODD_FILTER | ODD_TERM),
        "order_by": data.draw(st.lists(ORDER_KEY | ODD_KEY, max_size=2)),
        "lifecycle": "all",
    }
    both.compare(asked, 1000)


@often
@given(st.data())
def test_searches_of_experiments_find_what_mlflow_finds(both: Both, data: st.DataObject) -> None:
    """Right and wrong ones."""
    asked = {
        "of": "experiments",
        "filter": data.draw(st.lists(E_TERM | E_ODD, max_size=2).map(" AND ".join)),
        "order_by": data.draw(st.lists(E_ORDER, max_size=2)),
        "lifecycle": data.draw(st.sampled_from(["active", "all"])),
    }
    both.compare(asked, data.draw(st.sampled_from([1, 1000])))
