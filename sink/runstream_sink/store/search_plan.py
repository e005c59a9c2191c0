"""What a search asks a store, after the search grammar was parsed and checked (see ``query/search``).

A store answers with rows in the order of ``order``, and of the keys that it adds itself: runs by start time, newest
first, then by run id; experiments by id, greatest first.  ``after`` are the place columns (`Placed.place`) of the last
row of the page before, so that a page begins behind the place where that row stood.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

__all__ = [
    "ExperimentSearch",
    "Field",
    "Kind",
    "Order",
    "Placed",
    "RunSearch",
    "SearchPlan",
    "Term",
    "Value",
    "ordered_experiments",
    "ordered_runs",
]

Kind = Literal["metric", "parameter", "tag", "attribute", "dataset"]
Value = str | int | float | tuple[str, ...] | None
"""``tuple`` for IN and NOT IN, None for IS NULL and IS NOT NULL."""


class Field(NamedTuple):
    """What a term or an order is about.

    Attributes of runs are run_id, run_name, user_id, status, start_time, end_time and artifact_uri; of experiments
    experiment_id, name, creation_time and last_update_time.
    """

    kind: Kind
    key: str


class Term(NamedTuple):
    """One condition.  ``comparator`` is in capitals and fits the kind and the value."""

    field: Field
    comparator: str
    value: Value


class Order(NamedTuple):
    """One key of an order."""

    field: Field
    descending: bool


class Placed(NamedTuple):
    """A row that was found, and its place in the order."""

    row: tuple[Any, ...]
    place: tuple[Any, ...]


@dataclass(frozen=True)
class RunSearch:
    """Runs that meet all terms.  Rows: run_id, experiment_id, name, user, status, start_time, end_time, lifecycle."""

    experiments: tuple[int, ...] | None
    """Ids, each once; None for all runs."""
    terms: tuple[Term, ...]
    order: tuple[Order, ...]
    """Each field at most once."""
    lifecycle: str | None
    """``active``, ``deleted`` or None for both."""
    limit: int
    after: tuple[Any, ...] | None
    artifact_uri: tuple[str, str]
    """What stands before and after the run id in a run's artifact URI."""

    @property
    def width(self) -> int:
        """How many values a place has: a rank and a value for each key, and the run id."""
        return 2 * len(ordered_runs(self.order)) + 1


@dataclass(frozen=True)
class ExperimentSearch:
    """Experiments that meet all terms.  Rows: id, name, creation time, lifecycle, last update time."""

    terms: tuple[Term, ...]
    order: tuple[Order, ...]
    lifecycle: str | None
    limit: int
    after: tuple[Any, ...] | None

    @property
    def width(self) -> int:
        """How many values a place has: a rank and a value for each key."""
        return 2 * len(ordered_experiments(self.order))


SearchPlan = RunSearch | ExperimentSearch


def ordered_runs(order: tuple[Order, ...]) -> tuple[Order, ...]:
    """``order`` and what follows it, but for the run id, which always comes last."""
    newest = Order(Field("attribute", "start_time"), descending=True)
    return order if any(one.field == newest.field for one in order) else (*order, newest)


def ordered_experiments(order: tuple[Order, ...]) -> tuple[Order, ...]:
    """``order`` with the id, which decides between experiments that are else equal."""
    last = Order(Field("attribute", "experiment_id"), descending=True)
    return order if any(one.field == last.field for one in order) else (*order, last)
