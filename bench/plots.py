"""Draws the results: log calls beside other loggers, the sink beside its bare limit, and growth."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["PLOTS", "draw"]

OURS, OTHERS, LIMIT = "#1f5fbf", "#9a9a9a", "#c9a227"
_SETTINGS = {"svg.hashsalt": "runstream", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}


def draw(results: Mapping[str, Any], folder: Path, *, formats: tuple[str, ...] = ("svg", "png")) -> list[Path]:
    """Draw what there are results for, each plot in each format; the files, which lie in the folder."""
    import matplotlib as mpl

    mpl.use("agg")
    drawn = []
    with mpl.rc_context(_SETTINGS):
        for name, (benchmark, plot) in PLOTS.items():
            if benchmark in results:
                drawn += _save(plot(results[benchmark]["results"]), folder / name, formats)
    return drawn


def _save(figure: Any, path: Path, formats: tuple[str, ...]) -> list[Path]:
    import matplotlib.pyplot as plt

    files = [path.with_suffix(f".{form}") for form in formats]
    for file in files:
        metadata = {"Date": None} if file.suffix == ".svg" else None  # the same results are the same bytes
        figure.savefig(file, bbox_inches="tight", dpi=150, metadata=metadata)
    plt.close(figure)
    return files


def _figure(columns: int, height: float) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, columns, figsize=(9, height), squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes[0]


def _peers(results: Mapping[str, Any]) -> Any:
    """A bar from nothing to p50 for each logger, and a line from there to p99."""
    subjects = ("metric", "2 KB row")
    figure, axes = _figure(2, 0.4 + 0.33 * max(len(results[subject]) for subject in subjects))
    for axis, subject in zip(axes, subjects, strict=True):
        held = sorted(results[subject].items(), key=lambda item: -float(item[1]["p50"]))
        names = [name for name, _ in held]
        middle = [one["p50"] for _, one in held]
        axis.barh(names, middle, color=[OURS if name == "runstream" else OTHERS for name in names], height=0.6)
        axis.hlines(names, middle, [one.get("p99", one["p50"]) for _, one in held], color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_xlabel("µs a call: p50 (bar) and p99 (line)")
        axis.set_title(f"log a {subject}", loc="left")
    figure.tight_layout()
    return figure


def _emit(results: Mapping[str, Any]) -> Any:
    """From p50 (point) over p99 (tick) to p99.9 (end), in each circumstance."""
    figure, axes = _figure(2, 3.2)
    for axis, subject in zip(axes, ("metric", "row"), strict=True):
        held = {name.partition(", ")[2]: one for name, one in results.items() if name.startswith(f"{subject}, ")}
        for peer, color, above in (("runstream", OURS, 0.15), ("librdkafka", OTHERS, -0.15)):
            found = [(row + above, one[peer]) for row, one in enumerate(held.values()) if peer in one]
            rows = [row for row, _ in found]
            middle, far, end = ([one[column] for _, one in found] for column in ("p50", "p99", "p99.9"))
            axis.hlines(rows, middle, end, color=color, linewidth=1.5)
            axis.plot(middle, rows, "o", color=color, markersize=5, label=peer)
            axis.plot(far, rows, "|", color=color, markersize=8)
        axis.set_yticks(range(len(held)), held)
        axis.set_xscale("log")
        axis.set_xlabel("µs a call: p50 (point), p99 (tick), p99.9 (end)")
        axis.set_title(f"log a {subject}", loc="left")
        axis.legend(frameon=False, fontsize=7)
    figure.tight_layout()
    return figure


def _growth(results: Mapping[str, Any]) -> Any:
    """The time at 1x, 10x and 100x of each case."""
    import matplotlib.pyplot as plt

    figure, axes = _figure(2, 4)
    for axis, kind in zip(axes, ("work", "page"), strict=True):
        axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)
        for name, one in results.items():
            if one["kind"] == kind:
                scales = [10**power for power in range(len(one["milliseconds"]))]
                axis.plot(scales, one["milliseconds"], marker="o", markersize=3, linewidth=1, label=name)
        axis.legend(fontsize=6, frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.15))
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xlabel("amount")
        axis.set_ylabel("ms")
        axis.set_title({"work": "work", "page": "first pages"}[kind], loc="left")
    figure.tight_layout()
    return figure


def _sink(results: Mapping[str, Any]) -> Any:
    """Units a second, ours and the bare limit's, of the cases that have one."""
    held = {name: one for name, one in results.items() if isinstance(one, Mapping) and {"ours", "limit"} <= set(one)}
    figure, (axis,) = _figure(1, 0.8 + 0.5 * len(held))
    for number, one in enumerate(held.values()):
        axis.barh(number + 0.18, one["ours"], height=0.34, color=OURS, label="runstream" if number == 0 else None)
        axis.barh(number - 0.18, one["limit"], height=0.34, color=LIMIT, label="bare limit" if number == 0 else None)
    axis.set_yticks(range(len(held)), held)
    axis.set_xscale("log")
    axis.set_xlabel("a second, into the store")
    axis.legend(frameon=False)
    figure.tight_layout()
    return figure


PLOTS: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], Any]]]] = {
    "emit-beside-peers": ("peers", _peers),
    "emit-circumstances": ("emit", _emit),
    "sink-beside-limit": ("sink", _sink),
    "growth": ("growth", _growth),
}
"""By file name, the benchmark whose results a plot shows."""
