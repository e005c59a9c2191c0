"""Runs all benchmarks one after another, each in a process of its own, and shows the targets and how far they are met.

The results lie in ``build/bench``: a JSON file of each benchmark, ``run.json`` about the run, ``targets.json``, and the
plots.  A benchmark that fails does not stop the others; the run fails then.

``make bench`` runs it, ``make bench QUICK=1`` in minutes, ``make bench PEERS=1`` with other loggers,
``make bench ONLY="sink search"`` only some; results of the others stay as they are.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plots import draw
from suite import SIZES, Benchmark, choose
from targets import judge, load_results, print_targets
from timing import machine

__all__ = ["main"]


def main() -> None:
    """Run, and exit with 1 if a benchmark failed."""
    options = _parse()
    options.output.mkdir(parents=True, exist_ok=True)
    planned = list(_plan(options))
    _greet(planned, options)
    record = _record(options.output / "run.json")
    for number, (one, arguments) in enumerate(planned, 1):
        about = f"about {one.minutes:g} min" if options.size == "full" else options.size
        print(f"\n== [{number}/{len(planned)}] {one.name} ({about})\n   durability: {one.durability}", flush=True)
        record[one.name] = _run(one, arguments, options)
        (options.output / "run.json").write_text(json.dumps({"machine": machine(), "benchmarks": record}, indent=2))
    targets = judge(load_results(options.output))
    (options.output / "targets.json").write_text(json.dumps(targets, indent=2))
    print_targets(targets)
    for path in draw(load_results(options.output), options.output):
        print(f"drawn: {path}")
    failed = [one.name for one, _ in planned if record[one.name]["code"]]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _plan(options: argparse.Namespace) -> Iterator[tuple[Benchmark, list[str]]]:
    """What is to be run, and with which arguments."""
    for one in choose(options.only):
        arguments = one.arguments(options.size, peers=options.peers)
        if one.needs and not shutil.which(one.needs):
            print(f"{one.name} is left out: it needs {one.needs}, which is not installed")
        elif arguments is not None:
            yield one, arguments


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument("--size", choices=SIZES, default="full")
    sizes.add_argument("--quick", dest="size", action="store_const", const="quick", help="minutes, rough")
    parser.add_argument("--peers", action="store_true", help="measure other loggers too")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these benchmarks alone")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="the directory of the results")
    return parser.parse_args()


def _greet(planned: Sequence[tuple[Benchmark, list[str]]], options: argparse.Namespace) -> None:
    here = machine()
    print(f"{here['date']}, commit {here['commit'] or 'unknown'}")
    print(
        f"{here['processor']}, {here['cpus']} CPUs, {here['memory_gib']} GiB, {here['file_system']}, {here['system']}"
    )
    print(f"CPython {here['python']}, " + ", ".join(f"{name} {number}" for name, number in here["versions"].items()))
    load = here["load_average"]
    print(f"load averages: {', '.join(f'{one:.2f}' for one in load)}")
    if load[0] > 0.3:
        print("WARNING: the machine does other work; what is measured now shows the order of things, and no more")
    if options.size == "full":
        print(f"{len(planned)} benchmarks, about {sum(one.minutes for one, _ in planned):g} minutes in all")


def _run(one: Benchmark, arguments: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run a benchmark; what is told of it."""
    results = options.output / f"{one.name}.json"
    command = [sys.executable, str(one.script), *arguments, "--output", str(results)]
    results.unlink(missing_ok=True)
    load, begin = os.getloadavg(), time.monotonic()
    code = subprocess.run(command, check=False).returncode
    seconds = time.monotonic() - begin
    print(f"   {one.name}: {'done' if code == 0 else f'FAILED ({code})'} after {seconds:.0f} s", flush=True)
    told = {"size": options.size, "durability": one.durability, "load_average": list(load)}
    return {**told, "seconds": round(seconds, 1), "code": code}


def _record(path: Path) -> dict[str, Any]:
    """What is known of earlier runs."""
    known: dict[str, Any] = json.loads(path.read_text())["benchmarks"] if path.exists() else {}
    return known


if __name__ == "__main__":
    main()
