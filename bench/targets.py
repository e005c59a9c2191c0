"""The targets, and how far the results of the benchmarks meet them."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from timing import print_table

__all__ = ["TARGETS", "Target", "judge", "load_results", "print_targets"]


class Target(NamedTuple):
    """One figure and its bound."""

    what: str
    target: str
    benchmark: str
    find: Callable[[Any], float]
    """The figure, from the benchmark's results; raises `KeyError` where it was not measured."""
    bound: float
    form: str = "{:,.2f}"
    least: bool = False
    """Whether the bound is the least that will do, not the most."""


def _of(*path: str) -> Callable[[Any], float]:
    """The figure at a path into the results."""

    def find(results: Any) -> float:
        for name in path:
            results = results[name]
        return float(results)

    return find


def _ratio(above: Sequence[str], below: Sequence[str]) -> Callable[[Any], float]:
    return lambda results: _of(*above)(results) / _of(*below)(results)


def _case(results: Any, subject: str, *words: str) -> Any:
    """The case of the benchmark ``emit`` whose name begins with the subject and holds one of the words."""
    for name, case in results.items():
        if name.startswith(f"{subject}, ") and any(word in name for word in words):
            return case["runstream"]
    raise KeyError(subject)


def _beside(subject: str, *words: str) -> Callable[[Any], float]:
    """How many times its p50 alone a call takes in another case."""
    return lambda results: _case(results, subject, *words)["p50"] / _case(results, subject, "alone")["p50"]


def _most(figures: Iterable[float]) -> float:
    """The greatest; raises `KeyError` if there is none."""
    held = [float(figure) for figure in figures]
    if not held:
        raise KeyError("nothing of this was measured")
    return max(held)


def _worst_tail(results: Any) -> float:
    """The greatest p99.9 beside a busy thread or with a busy disk, in milliseconds."""
    return _most(
        case["runstream"]["p99.9"] / 1000
        for name, case in results.items()
        if name.split(", ")[0] in {"metric", "row"} and ("busy" in name or "disk" in name)
    )


def _measured(kind: str, figure: str = "seconds") -> Callable[[Any], float]:
    """What a replay took; a projected time is no measurement."""
    return lambda results: _of(kind, figure if results[kind]["measured"] else "not measured")(results)


def _steepest(kind: str) -> Callable[[Any], float]:
    """The greatest exponent of a kind."""
    return lambda results: _most(one["exponent"] for one in results.values() if one["kind"] == kind)


def _largest_memory(results: Any) -> float:
    """The most that a sink takes, at any backlog."""
    return _most(one["peak"] for name, one in results.items() if name.startswith("sink, "))


def _slowest_history(results: Any) -> float:
    """Of the shapes."""
    return _most(one["buckets"] for one in results.values())


def _emit(subject: str, p50: float) -> list[Target]:
    """What is promised of one log call."""
    alone, times = f"{subject}, alone", "{:,.1f}x"
    ours, theirs = (alone, "runstream"), (alone, "librdkafka")
    what = "emit metric" if subject == "metric" else "emit 2 KB row"
    tail = Target(f"{what}: p99", "≤ 10x p50", "emit", _ratio((*ours, "p99"), (*ours, "p50")), 10, times)
    return [
        Target(f"{what}: p50", f"≤ {p50:g} µs", "emit", _of(*ours, "p50"), p50, "{:,.2f} µs"),
        *([tail] if subject == "metric" else []),
        Target(
            f"{what}: p99.9",
            "≤ 1x that of librdkafka",
            "emit",
            _ratio((*ours, "p99.9"), (*theirs, "p99.9")),
            1,
            "{:,.2f}x",
        ),
        Target(f"{what}, beside a busy thread: p50", "≤ 2x of alone", "emit", _beside(subject, "busy"), 2, "{:,.2f}x"),
        Target(f"{what}, with a busy disk: p50", "≤ 2x of alone", "emit", _beside(subject, "disk"), 2, "{:,.2f}x"),
    ]


def _against(peer: str, least: float) -> Target:
    find = _ratio(("metric", peer, "p50"), ("metric", "runstream", "p50"))
    return Target(f"emit metric: {peer}, p50", f"≥ {least:,}x ours", "peers", find, least, "{:,.0f}x", least=True)


def _sink(kind: str, least: float) -> list[Target]:
    name = f"sink, {kind}"
    ratio = _ratio((kind, "ours"), (kind, "limit"))
    return [
        Target(name, f"≥ {least:,}/s", "sink", _of(kind, "ours"), least, "{:,.0f}/s", least=True),
        Target(f"{name}: share of the bare limit", "≥ 60 %", "sink", ratio, 0.6, "{:.0%}", least=True),
    ]


TARGETS: Final = (
    *_emit("metric", 2),
    _against("mlflow asynchronous", 150),
    _against("mlflow synchronous", 4000),
    Target(
        "mlflow.log_metric, by the plugin: MLflow's server, mean",
        "≥ 100x ours",
        "plugin",
        _of("mlflow server", "times ours"),
        100,
        "{:,.0f}x",
        least=True,
    ),
    *_emit("row", 4),
    Target("emit, busy thread or disk: p99.9", "≤ 10 ms", "emit", _worst_tail, 10, "{:,.2f} ms"),
    Target(
        "serving process, logging every request: CPU",
        "≤ 1.02x",
        "serving",
        _of("runstream, whole", "ratio", "cpu"),
        1.02,
        "{:,.3f}x",
    ),
    *_sink("metrics", 150_000),
    *_sink("2 KB rows", 35_000),
    Target("request runs", "≥ 4,000 runs/s", "sink", _of("request runs", "ours"), 4000, "{:,.0f}/s", least=True),
    Target("replay of 10 million metrics", "≤ 70 s", "replay", _measured("metrics"), 70, "{:,.1f} s"),
    Target("replay of 1 million 2 KB rows", "≤ 35 s", "replay", _measured("2 KB rows"), 35, "{:,.1f} s"),
    Target(
        "replay of 1 million request runs",
        "≥ 4,000 runs/s",
        "replay",
        _measured("request runs", "rate"),
        4000,
        "{:,.0f}/s",
        least=True,
    ),
    Target("emit to visible, 1,000 events/s: p99", "≤ 100 ms", "visible", _of("runstream", "p99"), 100, "{:,.1f} ms"),
    Target("sink memory above import", "≤ 200 MB", "memory", _largest_memory, 200e6 / 2**20, "{:,.0f} MiB"),
    Target(
        "sink memory above import, 1 million request runs",
        "≤ 200 MB",
        "replay",
        _measured("request runs", "memory"),
        200e6 / 2**20,
        "{:,.0f} MiB",
    ),
    Target(
        "search by metric and param, first page",
        "≤ 50 ms",
        "search",
        _of("metric and param", "p50"),
        50,
        "{:,.1f} ms",
    ),
    Target("history in 1,000 buckets", "≤ 50 ms", "history", _slowest_history, 50, "{:,.1f} ms"),
    Target("growth of work: exponent", "≤ 1.05", "growth", _steepest("work"), 1.05),
    Target("growth of first pages: exponent", "≤ 0.2", "growth", _steepest("page"), 0.2),
)


def load_results(folder: Path) -> dict[str, Any]:
    """By benchmark, what its file in a folder holds, with what ``run.json`` says of its run under ``run``."""
    path = folder / "run.json"
    runs = json.loads(path.read_text())["benchmarks"] if path.exists() else {}
    found = {}
    for name, told in runs.items():
        file = folder / f"{name}.json"
        if file.exists():
            found[name] = {**json.loads(file.read_text()), "run": told}
    return found


def judge(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each target with its figure as text and whether it is met: both None where it was not measured."""
    judged = []
    for target in TARGETS:
        told = {"what": target.what, "target": target.target, "benchmark": target.benchmark}
        held = results.get(target.benchmark, {"results": {}, "run": {}})
        try:
            figure = target.find(held["results"])
        except KeyError:
            judged.append({**told, "figure": None, "met": None, "size": None, "durability": None})
            continue
        met = figure >= target.bound if target.least else figure <= target.bound
        run = held["run"]
        found = {"figure": target.form.format(figure), "met": met}
        judged.append({**told, **found, "size": run.get("size"), "durability": run.get("durability")})
    return judged


def print_targets(judged: Sequence[Mapping[str, Any]]) -> None:
    """As a table."""
    says = {True: "met", False: "MISSED", None: ""}
    rows = [
        [one["what"], one["target"], one["figure"] or "not measured", says[one["met"]], one["size"] or ""]
        for one in judged
    ]
    print_table("targets", ["", "target", "figure", "", "size"], rows)
