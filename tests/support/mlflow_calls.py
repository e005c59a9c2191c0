"""Requests to MLflow's REST API that Hypothesis makes up: most as they should be, some with odd values."""

from typing import Any

from hypothesis import strategies as st

from support.mlflow_pair import Asked

__all__ = ["sequences"]

API = "/api/2.0/mlflow/"
PROXY = "/api/2.0/mlflow-artifacts/artifacts"
KEYS = ["a", "b/c", "d e"]
BAD_KEYS = ["", "../x", "a//b", "x!", "k" * 251, "/a", ".", "ü"]
ODD: list[Any] = [None, "", 5, -1, 1.5, [], {}, ["x"], {"key": "a"}, "text", "NaN", "99999999", 10**30]
EXPERIMENT = st.sampled_from(["<experiment 0>"] * 12 + ["<experiment 1>"] * 6 + ["99999", "abc"])
RUN = st.sampled_from(["<run 0>"] * 12 + ["<run 1>"] * 6 + ["<run 2>"] * 3 + ["f" * 32, "x!"])
KEY = st.sampled_from(KEYS * 12 + BAD_KEYS)
TEXT = st.sampled_from(["x", "y", "", "é \n 'q' \"", "v" * 300])
TIME = st.sampled_from([0, 1, 2, 3, 4, 5, "3", 1 << 40] * 2 + [-1])
STEP = st.integers(-2, 4)
VALUE = st.sampled_from([0, 1, -1.5, 2.5, 1e300, "NaN", "Infinity", "-Infinity", "1.5"])
LIMIT = st.sampled_from([1, 2, 3, 1000] * 3 + [0, -1, 50_001])
NAME = st.sampled_from([f"{word} <session>" for word in ("one", "two", "three")] * 4 + ["n" * 501])
TAG = st.fixed_dictionaries({"key": KEY, "value": TEXT})
GOOD_TAG = st.fixed_dictionaries({"key": st.sampled_from([*KEYS, "mlflow.runName"]), "value": st.sampled_from("xy")})
METRIC = st.fixed_dictionaries({"key": KEY, "value": VALUE, "timestamp": TIME}, optional={"step": STEP})
CONTEXT = st.fixed_dictionaries({"key": st.just("mlflow.data.context"), "value": st.sampled_from(["train", "eval"])})
DATASET = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["iris", "wine"]),
        "digest": st.sampled_from(["1", "2"] * 5 + ["d" * 37]),
        "source_type": st.just("local"),
        "source": st.just("here"),
    },
    optional={"schema": st.just("{}")},
)
VIEW = st.sampled_from(["ACTIVE_ONLY", "DELETED_ONLY", "ALL"])
FILTER = st.sampled_from(
    (
        "",
        "params.a = 'x'",
        "tags.`d e` LIKE 'x%'",
        "metrics.a > 0",
        "status = 'FINISHED'",
        "run_name = 'first'",
        "dataset.name = 'iris'",
        "dataset.context != 'train'",
        "attributes.start_time > 1005",
        "foo.bar = 1",
        "params.a =",
        "metrics.a = 'x'",
    )
)
ORDER = st.lists(st.sampled_from(["params.a", "metrics.a DESC", "start_time ASC", "nothing", "run_name"]), max_size=2)
BELOW = st.sampled_from(["a.txt", "d/b.txt", "d/e/c.bin", "é.txt", "d/./f.txt"] * 3 + ["a#b"])
PATH = st.one_of(BELOW, BELOW, st.sampled_from(["d", "/abs", "none.txt", "../x", ".", "d/", "d/e"]))


def _post(path: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[Asked]:
    return _asked("POST", path, required, optional or {})


def _get(path: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[Asked]:
    return _asked("GET", path, required, optional or {})


def _asked(method: str, path: str, required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Asked]:
    """One request in eight lacks something or has an odd value."""
    names = [*required, *optional]
    odd = st.sampled_from(ODD if method == "POST" else ["", "text", "-1", "1.5"])
    spoilt = st.tuples(st.sampled_from(names), odd) if names else st.nothing()
    whole = st.fixed_dictionaries(required, optional=optional)
    as_it_should_be = whole.map(lambda given: Asked(method, path, given))
    broken = st.tuples(whole, spoilt).map(lambda pair: Asked(method, path, pair[0] | {pair[1][0]: pair[1][1]}))
    lacking = st.tuples(whole, st.sampled_from(names)).map(
        lambda pair: Asked(method, path, {name: value for name, value in pair[0].items() if name != pair[1]})
    )
    return st.one_of(*[as_it_should_be] * 7, st.one_of(broken, lacking))


_E = {"experiment_id": EXPERIMENT}
_R = {"run_id": RUN}
_EXPERIMENTS = [
    _post(f"{API}experiments/create", {"name": NAME}, {"tags": st.lists(TAG, max_size=2)}),
    _get(f"{API}experiments/get", _E),
    _get(f"{API}experiments/get-by-name", {"experiment_name": NAME}),
    _post(f"{API}experiments/update", {**_E, "new_name": NAME}),
    _post(f"{API}experiments/delete", _E),
    _post(f"{API}experiments/restore", _E),
    _post(f"{API}experiments/set-experiment-tag", {**_E, "key": KEY, "value": TEXT}),
    _post(f"{API}experiments/delete-experiment-tag", {**_E, "key": KEY}),
    _post(
        f"{API}experiments/search",
        {"max_results": LIMIT, "filter": st.just("name LIKE '%<session>'"), "order_by": st.just(["name"])},
        {"view_type": VIEW},
    ),
]
_RUNS = [
    _post(
        f"{API}runs/create",
        {**_E, "start_time": st.integers(100, 100_000)},
        {"run_name": st.sampled_from(["first", "second"]), "user_id": TEXT, "tags": st.lists(GOOD_TAG, max_size=2)},
    ),
    _get(f"{API}runs/get", _R),
    _post(
        f"{API}runs/update",
        _R,
        {"status": st.sampled_from(["FINISHED", "RUNNING", "FAILED"]), "end_time": TIME, "run_name": TEXT},
    ),
    _post(f"{API}runs/delete", _R),
    _post(f"{API}runs/restore", _R),
    _post(
        f"{API}runs/search",
        {"experiment_ids": st.lists(EXPERIMENT, max_size=2, unique=True), "filter": FILTER},
        {"order_by": ORDER, "run_view_type": VIEW, "max_results": LIMIT},
    ),
]
_LOGGING = [
    _post(f"{API}runs/log-metric", {**_R, "key": KEY, "value": VALUE, "timestamp": TIME}, {"step": STEP}),
    _post(f"{API}runs/log-parameter", {**_R, "key": KEY, "value": TEXT}),
    _post(f"{API}runs/set-tag", {**_R, "key": KEY, "value": TEXT}),
    _post(f"{API}runs/delete-tag", {**_R, "key": KEY}),
    _post(
        f"{API}runs/log-batch",
        _R,
        {
            "metrics": st.lists(METRIC, max_size=4),
            "params": st.lists(TAG, max_size=3),
            "tags": st.lists(TAG, max_size=3),
        },
    ),
    _post(
        f"{API}runs/log-inputs",
        {
            **_R,
            "datasets": st.lists(
                st.fixed_dictionaries({"dataset": DATASET}, optional={"tags": st.lists(CONTEXT, max_size=1)}),
                max_size=2,
            ),
        },
    ),
    _get(f"{API}metrics/get-history", {**_R, "metric_key": KEY}, {"max_results": LIMIT}),
    _get("/ajax-api/2.0/mlflow/metrics/get-history-bulk", {**_R, "metric_key": KEY}, {"max_results": LIMIT}),
    _get(
        "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval",
        {"run_ids": st.lists(RUN, min_size=1, max_size=2, unique=True), "metric_key": KEY},
        {"max_results": st.sampled_from([5, 100, 0, 2501]), "start_step": STEP, "end_step": STEP},
    ),
    _post("/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": st.lists(EXPERIMENT, max_size=2)}),
]
_ARTIFACTS = [
    _get(f"{API}artifacts/list", _R, {"path": PATH}),
    _get("/get-artifact", {**_R, "path": PATH}),
    _get(PROXY, {"path": PATH.map(lambda path: f"<experiment 0>/<run 0>/artifacts/{path}")}),
    st.builds(lambda path: Asked("GET", f"{PROXY}/<experiment 0>/<run 0>/artifacts/{path}", {}), BELOW),
    st.builds(
        lambda path, content: Asked("PUT", f"{PROXY}/<experiment 0>/<run 0>/artifacts/{path}", {}, content),
        BELOW,
        st.binary(max_size=5),
    ),
]
_BEGIN = [
    Asked("POST", f"{API}experiments/create", {"name": "one <session>"}),
    *(
        Asked("POST", f"{API}runs/create", {"experiment_id": "<experiment 0>", "start_time": 100 + number})
        for number in range(2)
    ),
]


def sequences(longest: int) -> st.SearchStrategy[list[Asked]]:
    """Requests, the first of which make an experiment with two runs."""
    some = st.one_of(
        st.one_of(_EXPERIMENTS), st.one_of(_RUNS), st.one_of(_LOGGING), st.one_of(_LOGGING), st.one_of(_ARTIFACTS)
    )
    return st.lists(some, min_size=longest // 2, max_size=longest).map(lambda asked: [*_BEGIN, *asked])
