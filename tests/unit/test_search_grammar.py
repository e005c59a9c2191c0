"""Filters and orders as texts: what they mean, and what is said of those that are wrong.

What MLflow 3.17 makes of each text was asked of it; the few texts that only runstream takes are apart.
"""

from typing import Any

import pytest

from runstream_schemas.errors import InvalidInputError
from runstream_sink.query.search.experiments import experiment_order, experiment_terms
from runstream_sink.query.search.runs import run_order, run_terms
from runstream_sink.store.search_plan import Field, Order

ALIKE: dict[str, list[tuple[str, str, str, Any]]] = {
    "": [],
    "metrics.a > 1": [("metric", "a", ">", 1.0)],
    "metrics.a>-1.5e3": [("metric", "a", ">", -1500.0)],
    "metrics.a > .5": [("metric", "a", ">", 0.5)],
    "metrics.a > 5.": [("metric", "a", ">", 5.0)],
    "metrics.a>1e-5": [("metric", "a", ">", 1e-5)],
    "metrics.a > 1e400": [("metric", "a", ">", float("inf"))],
    'metric."a b" >= 1': [("metric", "a b", ">=", 1.0)],
    "metrics.'a b' < 1": [("metric", "a b", "<", 1.0)],
    "metrics.`a b` <= 1": [("metric", "a b", "<=", 1.0)],
    "`metrics`.`a` != 1": [("metric", "a", "!=", 1.0)],
    "metrics.a.b.c = 1": [("metric", "a.b.c", "=", 1.0)],
    "metrics.5a > 1": [("metric", "5a", ">", 1.0)],
    "metrics.名 > 1": [("metric", "名", ">", 1.0)],
    "metrics.`` > 1": [("metric", "", ">", 1.0)],
    "metrics.`a``b` > 1": [("metric", "a``b", ">", 1.0)],
    'metrics.`a"b` > 1': [("metric", 'a"b', ">", 1.0)],
    "params.a = 'x'": [("parameter", "a", "=", "x")],
    'param.a = "it\'s"': [("parameter", "a", "=", "it's")],
    "parameter.a = 'it''s'": [("parameter", "a", "=", "it''s")],
    "parameters.a = 'it\\'s'": [("parameter", "a", "=", "it\\'s")],
    "params.a = ''": [("parameter", "a", "=", "")],
    "params.a like 'x%'": [("parameter", "a", "LIKE", "x%")],
    "params.a\tILIKE\t'X'": [("parameter", "a", "ILIKE", "X")],
    "params.a is null": [("parameter", "a", "IS NULL", None)],
    "params.a IS NOT NULL AND tags.b IS NULL": [
        ("parameter", "a", "IS NOT NULL", None),
        ("tag", "b", "IS NULL", None),
    ],
    "run_id IN('a')": [("attribute", "run_id", "IN", ("a",))],
    "attributes.run_id in ('a', \"b\",)": [("attribute", "run_id", "IN", ("a", "b"))],
    "run_id NOT IN ('a')": [("attribute", "run_id", "NOT IN", ("a",))],
    "datasets.name IN ('a')": [("dataset", "name", "IN", ("a",))],
    "dataset.context LIKE 'x'": [("dataset", "context", "LIKE", "x")],
    "run.status = 'x'": [("attribute", "status", "=", "x")],
    "attr.user_id != 'x'": [("attribute", "user_id", "!=", "x")],
    "start_time > 5.5": [("attribute", "start_time", ">", 5.5)],
    "Created < -5": [("attribute", "start_time", "<", -5)],
    "end_time = 99999999999999999999": [("attribute", "end_time", "=", 1e20)],
    "`run name` = 'x'": [("attribute", "run_name", "=", "x")],
    "\"Run Name\" = 'x'": [("attribute", "run_name", "=", "x")],
    "attributes.`Run name` = 'x'": [("attribute", "run_name", "=", "x")],
    "tags.`mlflow.runName` = 'x'": [("attribute", "run_name", "=", "x")],
    "artifact_uri LIKE 'x'": [("attribute", "artifact_uri", "LIKE", "x")],
    "metrics.a\n>\n1\nAND\nparams.b='x'": [("metric", "a", ">", 1.0), ("parameter", "b", "=", "x")],
    "metrics.a > 1 metrics.b < 2": [("metric", "a", ">", 1.0), ("metric", "b", "<", 2.0)],
    "and metrics.a > 1 AND": [("metric", "a", ">", 1.0)],
    "AND AND": [],
    "params.a = 'x'AND params.b='y'": [("parameter", "a", "=", "x"), ("parameter", "b", "=", "y")],
    "params.a = 'AND' AND params.like = '\n'": [("parameter", "a", "=", "AND"), ("parameter", "like", "=", "\n")],
}
ONLY_HERE: dict[str, tuple[str, str, str, Any]] = {
    "metrics.a > 1E+5": ("metric", "a", ">", 1e5),
    "metrics.a > 1.e5": ("metric", "a", ">", 1e5),
    "metrics.5 > 1": ("metric", "5", ">", 1.0),
    "params.case = 'x'": ("parameter", "case", "=", "x"),
    "params.a IS  NOT  NULL": ("parameter", "a", "IS NOT NULL", None),
    "status IN ('RUNNING', 'FAILED')": ("attribute", "status", "IN", ("RUNNING", "FAILED")),
}
WRONG: dict[str, str] = {
    " ": "line 1, column 2: nothing but white space",
    "metrics.a == 1": "column 11: there is no comparator ==; there are =, !=, <, <=, >, >=, LIKE,",
    "metrics.a <> 1": "there is no comparator <>;",
    "metrics.a >> 1": "there is no comparator >>;",
    "metrics.a > +5": "column 13: expected a value",
    "metrics.a > 0x10": "column 13: expected a value",
    "metrics.a > 1_000": "expected a value",
    "metrics.a > nan": "expected a value",
    "metrics.a > 'x'": "column 13: the metric 'a' is a number",
    "metrics.a > 1AND metrics.b > 2": "expected a value",
    "metrics.a > = 1": "expected a value",
    "metrics.a IS NULL": "not by IS NULL",
    "metrics.a BETWEEN 1 AND 2": "there is no comparator BETWEEN;",
    "metrics.a LIKE 1": "column 11: the metric 'a' is compared by =, !=, <, <=, >, >=, not by LIKE",
    "metrics.a IN (1)": "column 15: expected a quoted text",
    "metrics.a": "expected a comparator",
    "metrics.a >": "a value is missing",
    "metrics.a-b > 1": "column 10: a key with other characters",
    "metrics.a/b > 1": "metrics.`a-b`",
    "metrics.`a`.b > 1": "a key with other characters",
    "metrics . a > 1": "column 9: expected a comparator",
    "metrics. > 1": "column 9: a key is missing after metrics.",
    "metrics.`a > 1": "a key is missing",
    '"metrics".a > 1': "a key with other characters",
    "METRICS.a > 1": "column 1: there is nothing called 'METRICS'; before the dot stands one of metric, metrics,",
    "foo.bar = 'x'": "nothing called 'foo'",
    "foo = 'x'": "there is no attribute 'foo'; there are run_id, run_name,",
    "name = 'x'": "there is no attribute 'name'",
    "lifecycle_stage = 'active'": "there is no attribute 'lifecycle_stage'",
    "params.a = `x`": "expected a value",
    "params.a = x": "expected a value",
    "params.a = 5": "column 12: the parameter 'a' is a text",
    "params.a = 'x": "column 12: expected a value",
    "params.a = 'x' 'y'": "column 16: expected a field",
    "params.a > 'x'": "not by >",
    "params.a NOT LIKE 'x'": "there is no comparator NOT LIKE;",
    "params.a RLIKE 'x'": "there is no comparator RLIKE;",
    "params.a IN ('a')": "not by IN",
    "params.a = ('a')": "the parameter 'a' is a text",
    "params.a IS 'x'": "there is no comparator IS;",
    "run_id IN ()": "the list is empty",
    "run_id IN (a)": "expected a quoted text or )",
    "run_id IN ('a' 'b')": "expected , or )",
    "run_id IN ('a'": "expected , or )",
    "run_id IN 'a'": "IN wants a list, such as",
    "run_id IN ['a']": "expected a value",
    "status = 5": "the attribute 'status' is a text",
    "status IS NULL": "not by IS NULL",
    "start_time > '5'": "the attribute 'start_time' is a number",
    "start_time LIKE 5": "not by LIKE",
    "dataset.foo = 'x'": "there is no dataset 'foo'; there are name, digest, context",
    "dataset.name > 'x'": "not by >",
    "dataset.name = 5": "the dataset 'name' is a text",
    "datasets.name IS NULL": "not by IS NULL",
    "metrics.a > 1 OR metrics.b > 2": "column 15: OR is not in this grammar",
    "(metrics.a > 1)": "column 1: ",
    "NOT metrics.a > 1": "NOT is not in this grammar",
    "metrics.a > 1;": "column 14: expected a field",
    "metrics.a > 1 -- c": "expected a field",
    "params.a\n=\n'x' AND\n  metrics.b >> 1": "line 4, column 13: ",
    "1 < metrics.a": "column 5: expected a value",
    "params.a = '\ud800'": "column 13: a character that is no Unicode text",
    f"params.a LIKE '{'é' * 25_001}'": "a pattern has at most 50000 bytes",
    " AND ".join(["metrics.a > 1"] * 101): "more than 100 comparisons",
}


@pytest.mark.parametrize("text", ALIKE)
def test_a_filter_of_runs_means_what_mlflow_takes_it_for(text: str) -> None:
    """Kinds, keys, comparators and values."""
    assert [(*term.field, term.comparator, term.value) for term in run_terms(text)] == ALIKE[text]


@pytest.mark.parametrize("text", ONLY_HERE)
def test_some_filters_are_taken_here_that_mlflow_refuses(text: str) -> None:
    """They could mean nothing else."""
    assert [(*term.field, term.comparator, term.value) for term in run_terms(text)] == [ONLY_HERE[text]]


@pytest.mark.parametrize("text", WRONG, ids=lambda text: ascii(text)[:50])
def test_an_error_names_the_place_and_what_is_allowed(text: str) -> None:
    """Line, column, and what was expected."""
    with pytest.raises(InvalidInputError, match=r"^invalid filter at line ") as caught:
        run_terms(text)
    assert any(part in str(caught.value) for part in WRONG[text].split("|")), str(caught.value)


def test_an_error_points_at_the_place() -> None:
    """A caret below the line, which is cut if it is long; what no terminal shows is one character."""
    with pytest.raises(InvalidInputError) as caught:
        run_terms("params.a = 'x'\nAND metrics.b LIKE 'y'\nAND params.c = 'z'")
    assert str(caught.value).splitlines()[1:] == ["  AND metrics.b LIKE 'y'", "  " + " " * 14 + "^"]
    with pytest.raises(InvalidInputError) as caught:
        run_terms(f"params.a = '{'x' * 1000}\x00\t' AND ?")
    shown, caret = str(caught.value).splitlines()[1:]
    assert shown[2:].endswith("?\x20' AND ?".replace("\x20", " "))
    assert shown[caret.index("^")] == "?"
    assert len(shown) <= 102


@pytest.mark.parametrize(
    ("text", "field", "descending"),
    [
        ("metrics.a", Field("metric", "a"), False),
        ("metrics.a desc", Field("metric", "a"), True),
        ("metrics.`a b`  ASC", Field("metric", "a b"), False),
        ('params."it\'s" DESC', Field("parameter", "it's"), True),
        ("tags.mlflow.user\ndesc", Field("tag", "mlflow.user"), True),
        ("tag.`mlflow.runName`", Field("attribute", "run_name"), False),
        ("Created", Field("attribute", "start_time"), False),
        ("attribute.`end_time` asc", Field("attribute", "end_time"), False),
        (" run_id DESC ", Field("attribute", "run_id"), True),
    ],
)
def test_a_key_of_an_order_is_a_field_and_a_direction(text: str, field: Field, descending: bool) -> None:
    """Ascending unless it says otherwise."""
    assert run_order([text]) == (Order(field, descending),)


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        ([""], "a field is missing"),
        (["metrics.a foo"], "column 11: expected ASC, DESC or the end"),
        (["metrics.a, metrics.b"], "column 10: a key with other characters|expected ASC"),
        (["metrics.a DESC NULLS LAST"], "column 16: expected ASC"),
        (["datasets.name"], "nothing is ordered by datasets; by what is: attribute, metric, parameter, tag"),
        (["foo"], "there is no attribute 'foo'; there are run_id,"),
        (["`run name`"], "there is no attribute 'run name'"),
        (["metrics.a-b"], "a key with other characters"),
        (["metrics.a", "metric.`a` DESC"], "this field stands twice"),
    ],
)
def test_an_order_that_is_none_is_refused(texts: list[str], problem: str) -> None:
    """With the place."""
    with pytest.raises(InvalidInputError, match=r"^invalid order_by at line 1, column ") as caught:
        run_order(texts)
    assert any(part in str(caught.value) for part in problem.split("|")), str(caught.value)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("name = 'x'", ("attribute", "name", "=", "x")),
        ("attribute.`name` like 'x'", ("attribute", "name", "LIKE", "x")),
        ("experiment_id IN ('1', '2')", ("attribute", "experiment_id", "IN", ("1", "2"))),
        ("creation_time > 5", ("attribute", "creation_time", ">", 5)),
        ("tag.`a b` ILIKE 'x'", ("tag", "a b", "ILIKE", "x")),
        ("tags.a IS NULL", ("tag", "a", "IS NULL", None)),
    ],
)
def test_experiments_are_searched_by_what_they_have(text: str, term: tuple[Any, ...]) -> None:
    """Attributes and tags."""
    assert [(*one.field, one.comparator, one.value) for one in experiment_terms(text)] == [term]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("attributes.name = 'x'", "nothing called 'attributes'; before the dot stands one of attribute, tag, tags"),
        ("metrics.a > 1", "nothing called 'metrics'"),
        ("name IN ('x')", "not by IN"),
        ("experiment_id = 'x'", "column 17: experiment id 'x' is not a decimal number"),
        ("experiment_id IN ('1', '-1')", "experiment id '-1' is not"),
        ("experiment_id LIKE '1'", "not by LIKE"),
        ("creation_time > 5.5", "column 17: milliseconds since the epoch are compared with an integer"),
        ("name IS NULL", "not by IS NULL"),
    ],
)
def test_experiments_are_searched_by_nothing_else(text: str, problem: str) -> None:
    """The error says what there is."""
    with pytest.raises(InvalidInputError, match=r"^invalid filter at line 1, column ") as caught:
        experiment_terms(text)
    assert problem in str(caught.value)


def test_experiments_come_newest_first_unless_an_order_is_given() -> None:
    """A field that stands again means nothing there."""
    created, number = Field("attribute", "creation_time"), Field("attribute", "experiment_id")
    assert experiment_order([]) == (Order(created, descending=True), Order(number, descending=False))
    assert experiment_order(["name", "name DESC"]) == (Order(Field("attribute", "name"), descending=False),)
    with pytest.raises(InvalidInputError, match="nothing is ordered by tags"):
        experiment_order(["tags.a"])
