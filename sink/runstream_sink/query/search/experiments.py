"""What experiments are searched by: MLflow's names."""

from collections.abc import Iterable
from typing import Final

from runstream_schemas.names import is_experiment_id
from runstream_sink.query.search.terms import NULL, NUMBER, TEXT, Rule, Vocabulary, filter_terms, order_keys
from runstream_sink.store.search_plan import Field, Order, Term

__all__ = ["experiment_order", "experiment_terms"]


def _no_id(value: object) -> str | None:
    return None if is_experiment_id(str(value)) else f"experiment id {value!r:.100} is not a decimal number below 2**63"


def _no_integer(value: object) -> str | None:
    return "milliseconds since the epoch are compared with an integer" if isinstance(value, float) else None


_TIME: Final = Rule(NUMBER.comparators, number=True, problem=_no_integer)
_ATTRIBUTES: Final = {
    "name": TEXT,
    "experiment_id": Rule(("=", "!=", "IN", "NOT IN"), problem=_no_id),
    "creation_time": _TIME,
    "last_update_time": _TIME,
}
_EXPERIMENTS: Final = Vocabulary(
    entities={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    free={"tag": NULL},
    fixed={"attribute": _ATTRIBUTES},
    aliases={},
    orders={name: name for name in _ATTRIBUTES},
    order_kinds=frozenset({"attribute"}),
    replaced={},
    repeats=True,
)
_DEFAULT: Final = (
    Order(Field("attribute", "creation_time"), descending=True),
    Order(Field("attribute", "experiment_id"), descending=False),
)


def experiment_terms(text: str) -> tuple[Term, ...]:
    """The terms of a filter of experiments.  Raises `InvalidInputError`."""
    return filter_terms(text, _EXPERIMENTS)


def experiment_order(texts: Iterable[str]) -> tuple[Order, ...]:
    """The keys of an order of experiments; the newest first if ``texts`` are none.  Raises `InvalidInputError`."""
    return order_keys(texts, _EXPERIMENTS) or _DEFAULT
