"""What names and values may be: MLflow's rules, said in MLflow's words.

Longer values of params and tags than MLflow keeps are kept here; names are not longer, and look the same.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from runstream_sink.http.mlflow.errors import MlflowError, invalid

__all__ = [
    "Metric",
    "check_batch",
    "check_experiment_name",
    "check_experiment_tag",
    "check_input",
    "check_metric",
    "check_param",
    "check_results",
    "check_run_id",
    "check_tag",
]

_NAME: Final = re.compile(r"[/\w.\- :]*")
_RUN_ID: Final = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")
_LONGEST_KEY: Final = 250
_LONGEST_EXPERIMENT: Final = 500
_LONGEST_EXPERIMENT_TAG: Final = 20_000
_MOST_RESULTS: Final = 50_000
_MOST_METRICS: Final = 1000
_MOST_PARAMS: Final = 100
_MOST_ENTITIES: Final = 1000
_LONGEST_DATASET: Final = {
    "name": 500,
    "digest": 36,
    "source": 65_535,
    "schema": 1_048_575,
    "profile": 16_777_215,
}
_LONGEST_INPUT_TAG: Final = {"key": 255, "value": 500}
_CHARACTERS: Final = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes "
    "(/)."
)


class Metric(NamedTuple):
    """A point to log."""

    key: str
    value: float
    timestamp: int
    step: int


def check_experiment_name(name: str) -> None:
    """Refuse what is no experiment's name."""
    if len(name) > _LONGEST_EXPERIMENT:
        raise _too_long("name", _LONGEST_EXPERIMENT)


def check_experiment_tag(key: str | None, value: str) -> None:
    """Refuse what is no tag of an experiment."""
    _check_name(key, "key")
    _check_length(key, "key", _LONGEST_KEY)
    _check_length(value, "value", _LONGEST_EXPERIMENT_TAG)


def check_tag(key: str | None, path: str = "") -> None:
    """Refuse what is no key of a run's tag; ``path`` is where it stands in the request."""
    name = _place(path, "key")
    _check_name(key, name)
    _check_length(key, name, _LONGEST_KEY)


def check_param(key: str | None, path: str = "") -> None:
    """Refuse what is no param's key."""
    _check_name(key, _place(path, "key"))
    _check_length(key, "Param key", _LONGEST_KEY)


def check_metric(metric: Metric, path: str = "") -> None:
    """Refuse what is no point of a metric."""
    _check_name(metric.key, _place(path, "name"))
    if metric.timestamp < 0:
        raise _invalid_value(
            _place(path, "timestamp"),
            metric.timestamp,
            f"metric '{metric.key}' (value={metric.value}). Timestamp must be a nonnegative long (64-bit integer) ",
        )
    _check_length(metric.key, "Metric name", _LONGEST_KEY)


def check_input(entry: Mapping[str, Any]) -> None:
    """Refuse a dataset and its tags that are too long."""
    for name, limit in _LONGEST_DATASET.items():
        _check_length(entry["dataset"].get(name), name, limit)
    for tag in entry.get("tags", ()):
        for name, limit in _LONGEST_INPUT_TAG.items():
            _check_length(tag[name], name, limit)


def check_run_id(run_id: str) -> None:
    """Refuse what cannot be a run's id anywhere."""
    if _RUN_ID.fullmatch(run_id) is None:
        raise _invalid_value("run_id", run_id)


def check_batch(metrics: Sequence[Metric], params: Sequence[tuple[str, str]], tags: Sequence[tuple[str, str]]) -> None:
    """Refuse what cannot be logged at once."""
    for at, metric in enumerate(metrics):
        check_metric(metric, f"metrics[{at}]")
    for at, (key, _) in enumerate(params):
        check_param(key, f"params[{at}]")
    for at, (key, _) in enumerate(tags):
        check_tag(key, f"tags[{at}]")
    _check_count("metrics", len(metrics), _MOST_METRICS)
    _check_count("params", len(params), _MOST_PARAMS)
    _check_count("tags", len(tags), _MOST_PARAMS)
    _check_count("metrics, params, and tags", len(metrics) + len(params) + len(tags), _MOST_ENTITIES)
    repeated = _repeated(key for key, _ in params)
    if repeated:
        raise invalid(
            f"Duplicate parameter keys have been submitted: {repeated}. Please ensure the request contains only one "
            "param value per param key."
        )


def check_results(count: int) -> None:
    """Refuse a number of results that is not positive, or too large."""
    if count <= 0:
        raise _positive(count)
    if count > _MOST_RESULTS:
        raise invalid(f"Invalid value {count} for parameter 'max_results' supplied. It must be at most {_MOST_RESULTS}")


def _positive(count: int) -> MlflowError:
    return invalid(f"Invalid value {count} for parameter 'max_results' supplied. It must be a positive integer")


def _check_name(name: str | None, path: str) -> None:
    if name is None:
        raise invalid(f"Missing value for required parameter '{path}'.")
    if _NAME.fullmatch(name) is None:
        raise _invalid_value(path, name, _CHARACTERS)
    norm = posixpath.normpath(name)
    if norm != name or norm == "." or norm.startswith(("..", "/")):
        raise _invalid_value(
            path,
            name,
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such. "
            f"This name would resolve to {norm!r}",
        )


def _check_length(text: str | None, what: str, limit: int) -> None:
    if text is not None and len(text) > limit:
        raise _too_long(what, limit)


def _check_count(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise invalid(
            f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. Please split up {what} "
            "across multiple requests and try again."
        )


def _invalid_value(path: str, value: object, why: str = "") -> MlflowError:
    shown = json.dumps(value, ensure_ascii=True)
    return invalid(f"Invalid value {shown:.2000} for parameter '{path}' supplied{': ' + why if why else '.'}")


def _too_long(what: str, limit: int) -> MlflowError:
    return invalid(f"'{what}' exceeds the maximum length of {limit} characters")


def _place(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _repeated(keys: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [key for key in keys if key in seen or seen.add(key)]  # type: ignore[func-returns-value]
