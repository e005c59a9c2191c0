"""What runs are searched by: MLflow's names."""

from collections.abc import Iterable
from typing import Final

from runstream_sink.query.search.terms import LIST, NULL, NUMBER, Vocabulary, filter_terms, order_keys
from runstream_sink.store.search_plan import Field, Kind, Order, Term

__all__ = ["run_order", "run_terms"]

_NAMES: Final[dict[Kind, tuple[str, ...]]] = {
    "metric": ("metric", "metrics"),
    "parameter": ("parameter", "parameters", "param", "params"),
    "tag": ("tag", "tags"),
    "attribute": ("attribute", "attributes", "attr", "run"),
    "dataset": ("dataset", "datasets"),
}
_TEXTS: Final = ("run_id", "run_name", "status", "user_id", "artifact_uri")
_TIMES: Final = ("start_time", "end_time")
_ALIASES: Final = {
    "created": "start_time",
    "Created": "start_time",
    "run name": "run_name",
    "Run name": "run_name",
    "Run Name": "run_name",
}
_RUNS: Final = Vocabulary(
    entities={name: kind for kind, names in _NAMES.items() for name in names},
    free={"metric": NUMBER, "parameter": NULL, "tag": NULL},
    fixed={
        "attribute": {**dict.fromkeys(_TEXTS, LIST), **dict.fromkeys(_TIMES, NUMBER)},
        "dataset": dict.fromkeys(("name", "digest", "context"), LIST),
    },
    aliases=_ALIASES,
    # MLflow orders by "created", and not by "run name"
    orders={name: name for name in (*_TEXTS, *_TIMES)} | {"created": "start_time", "Created": "start_time"},
    order_kinds=frozenset({"metric", "parameter", "tag", "attribute"}),
    # A run's name is kept once; MLflow keeps it in this tag too
    replaced={Field("tag", "mlflow.runName"): Field("attribute", "run_name")},
    repeats=False,
)


def run_terms(text: str) -> tuple[Term, ...]:
    """The terms of a filter of runs.  Raises `InvalidInputError`."""
    return filter_terms(text, _RUNS)


def run_order(texts: Iterable[str]) -> tuple[Order, ...]:
    """The keys of an order of runs.  Raises `InvalidInputError`."""
    return order_keys(texts, _RUNS)
