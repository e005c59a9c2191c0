"""Writes the page of figures, ``docs/benchmarks/figures.md``, from what the benchmarks left.

Beside it lie its plots, and ``figures.json`` with all results: nobody types figures.  Refuses results of another size
than full, and of commits that differ, unless told otherwise; what was not measured is named.

Run it by ``make bench-report`` after ``make bench PEERS=1``.
"""

import argparse
import ast
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plots import PLOTS, draw
from suite import FOLDER
from targets import judge, load_results
from timing import ROOT

__all__ = ["main", "page"]

HEAD = """\
# Figures

Made by `make bench-report` from a run of `make bench`; no figure is typed, and all that was measured is in
[figures.json](figures.json). What the benchmarks measure, and how to read them, is in [benchmarks](../benchmarks.md).
"""
CAPTIONS = {
    "emit-beside-peers": "One log call beside other loggers",
    "emit-circumstances": "One log call in several circumstances",
    "sink-beside-limit": "The sink beside the bare limit",
    "growth": "Growth",
}
_MET = {True: "yes", False: "**no**", None: ""}


def main() -> None:
    """Write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, default=ROOT / "build/bench")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks")
    parser.add_argument("--any-size", action="store_true", help="take results of any size")
    parser.add_argument("--any-commit", action="store_true", help="take results of several commits")
    options = parser.parse_args()
    results = load_results(options.input)
    _check(results, options)
    options.output.mkdir(parents=True, exist_ok=True)
    drawn = draw(results, options.output, formats=("svg",))
    (options.output / "figures.json").write_text(json.dumps(results, indent=1) + "\n")
    path = options.output / "figures.md"
    path.write_text(page(results, [file.name for file in drawn]))
    print(f"written: {path}")


def page(results: Mapping[str, Any], plots: Sequence[str]) -> str:
    """The page, in Markdown."""
    parts = [HEAD, *_machine(results), *_targets(results), *_plots(plots), *_runs(results)]
    for name, held in results.items():
        parts += [f"## {name}", _about(name), *_tables(held["results"])]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _check(results: Mapping[str, Any], options: argparse.Namespace) -> None:
    rough = [name for name, held in results.items() if held["run"]["size"] != "full"]
    if rough and not options.any_size:
        raise SystemExit(f"not of full size: {', '.join(rough)}; run make bench, or give --any-size")
    commits = _commits(results)
    if len(commits) > 1 and not options.any_commit:
        raise SystemExit(f"measured at several commits ({', '.join(sorted(commits))}); give --any-commit to take them")


def _commits(results: Mapping[str, Any]) -> set[str]:
    return {held["machine"]["commit"] for held in results.values()}


def _machine(results: Mapping[str, Any]) -> list[str]:
    if not results:
        return ["Nothing has been measured yet."]
    here = next(iter(results.values()))["machine"]
    versions: dict[str, str] = {}
    for held in results.values():
        versions |= held["machine"]["versions"]
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    machine = f"{here['processor']}, {here['cpus']} CPUs, {here['memory_gib']} GiB of memory, {here['file_system']}"
    at = f"commit {here['commit']}" if len(_commits(results)) == 1 else "several commits, which are named with the runs"
    return [
        f"Measured on {here['date'][:10]} at {at}.",
        f"{machine}, {here['system']}, CPython {here['python']}, {named}.",
    ]


def _targets(results: Mapping[str, Any]) -> list[str]:
    rows = [
        [one["what"], one["target"], one["figure"] or "not measured", _MET[one["met"]], _short(one["durability"])]
        for one in judge(results)
    ]
    return ["## Targets", _markdown(["what", "target", "figure", "met", "what is logged is then"], rows)]


def _plots(names: Sequence[str]) -> list[str]:
    return [f"![{CAPTIONS[plot]}]({plot}.svg)" for plot in PLOTS if f"{plot}.svg" in names]


def _runs(results: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            *(name, held["run"]["size"], held["machine"]["date"], held["machine"]["commit"]),
            *(held["run"]["load_average"][0], held["run"]["seconds"]),
        ]
        for name, held in results.items()
    ]
    header = ["benchmark", "size", "began", "commit", "load average before", "seconds"]
    levels = dict.fromkeys(held["run"]["durability"] for held in results.values())
    return ["## Runs", _markdown(header, rows), "\n".join(f"- {level}" for level in levels)] if rows else []


def _short(durability: str | None) -> str:
    return (durability or "").partition(":")[0]


def _about(name: str) -> str:
    """What a benchmark's file says at its top, but for how to run it."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))) or ""
    return "\n\n".join(part for part in text.split("\n\n") if not part.startswith("Run it by"))


def _tables(results: Mapping[str, Any], title: str = "") -> Iterator[str]:
    """Results of any depth: a table of all names whose figures are numbers, one for each that holds names again."""
    flat = {name: one for name, one in results.items() if isinstance(one, Mapping) and not _deep(one)}
    single = {name: one for name, one in results.items() if not isinstance(one, Mapping)}
    deep = {name: one for name, one in results.items() if isinstance(one, Mapping) and _deep(one)}
    if title:
        yield f"### {title}"
    if single:
        yield _markdown(["", ""], list(single.items()))
    if flat:
        columns = list(dict.fromkeys(column for one in flat.values() for column in one))
        rows = [[name, *(one.get(column, "") for column in columns)] for name, one in flat.items()]
        yield _markdown(["", *columns], rows)
    for name, one in deep.items():
        yield from _tables(one, name)


def _deep(one: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Mapping) for value in one.values())


def _markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [list(map(str, header)), ["---"] * len(header), *(list(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    return f"{value:,}" if isinstance(value, int) else str(value).replace("|", "\\|")


if __name__ == "__main__":
    main()
