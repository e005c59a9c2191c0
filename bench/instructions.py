"""How many instructions a log call takes in the calling thread: a figure that a busy machine does not change.

Counted by ``valgrind --tool=callgrind``, which executes this process's instructions one by one, over a thousand calls
of each kind; the background thread's are left out, and so is what the kernel does.  ``encoding`` is what msgspec alone
takes for the same event.  All calls go into one segment of the journal: making the next one is no part of a call.

``bench/instructions.json`` holds the figures of the last change that meant to change them, by version of CPython and
msgspec, as other versions need other numbers.  This program compares, and fails where one is more than the
``tolerance`` of that file above it; ``--keep`` writes the present ones down.  It takes half a minute.
"""

import argparse
import functools
import gc
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from timing import print_table, write_json

import runstream
from runstream.client import client
from runstream_schemas import events as ev

KEPT: Final = Path(__file__).with_suffix(".json")
CALLS: Final = 1000
SEGMENT: Final = 64 << 20
"""Bytes of a segment in which all calls have room."""
WARM_UP: Final = 300
"""Calls before counting: CPython adapts its bytecode to what it meets."""
MARK: Final = "getpriority"
"""A function of the C library that nothing else calls: valgrind writes down what it has counted when it is entered."""

Call = Callable[[int], Any]


def calls() -> dict[str, tuple[Call, ev.Event | None]]:
    """What is counted: the call, and the event that it makes."""
    row = {"prompt": "p" * 1400, "output": "o" * 600, "latency_ms": 12.5, "tokens": 321}
    large = {**row, "prompt": "p" * 19_400}
    points = {"latency_ms": 12.5, "prompt_tokens": 321.0, "completion_tokens": 64.0, "ok": 1.0}
    run_id, now, sha256 = "0" * 32, 1_800_000_000_000, "0" * 64
    reference = ev.ArtifactLogged(run_id, "model/weights.bin", sha256, 123_456, "application/octet-stream")
    run = runstream.start_run()
    return {
        "nothing": (lambda _: None, None),
        "metric": (
            lambda step: runstream.log_metric("loss", 0.5, step=step),
            ev.MetricLogged(run_id, "loss", 0.5, 500, now),
        ),
        "metric, by a Run": (lambda step: run.log_metric("loss", 0.5, step), None),
        "four metrics": (
            lambda step: run.log_metrics(points, step),
            ev.MetricsLogged(run_id, points, 500, now),
        ),
        "param": (lambda _: run.log_param("model", "small"), ev.ParamsLogged(run_id, {"model": "small"})),
        "row of 2 KB": (
            lambda _: run.log_prediction(row),
            ev.RowsLogged(run_id, "predictions", list(row), [list(row.values())]),
        ),
        "row of 20 KB": (
            lambda _: run.log_prediction(large),
            ev.RowsLogged(run_id, "predictions", list(large), [list(large.values())]),
        ),
        "artifact reference": (lambda _: client.emit(reference), reference),
    }


def main() -> int:
    """Count, print, compare."""
    options = _parse()
    if options.execute:
        execute(options.execute)
        return 0
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed; get it with: apt-get install valgrind")
    found = count()
    write_json(options.output, found, options)
    return report(found, keep=options.keep)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help=f"write the figures down in {KEPT.name}")
    parser.add_argument("--output", type=Path, default=Path("build/bench/instructions.json"))
    parser.add_argument("--execute", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def execute(directory: Path) -> None:
    """Do what is counted, with a mark before and behind each; say what it was.  This is what runs in valgrind."""
    runstream.configure(stream=f"queue:{directory}/queue", sync_interval=3600, segment_size=SEGMENT)
    done = []
    gc.disable()
    counted = calls()
    _enter_large_segment()
    for name, (call, event) in counted.items():
        _execute(call)
        done.append((name, "call"))
        if event is not None:
            _execute(functools.partial(_encode, event))
            done.append((name, "encoding"))
    gc.enable()
    runstream.close()
    print(json.dumps(done))


def _enter_large_segment() -> None:
    journal = client._journal  # noqa: SLF001 - to tell when the next segment begins
    while journal is not None and journal._current.capacity < SEGMENT:  # noqa: SLF001
        journal._current.pace = SEGMENT, 1  # noqa: SLF001 - as if very much were logged
        journal.prepare()
        client.emit(ev.ArtifactInlined("0" * 32, "filler", bytes(200_000)))


def _encode(event: ev.Event, _: int) -> None:
    ev.encode_event(event)


def _execute(work: Call) -> None:
    for step in range(WARM_UP):
        work(step)
    _mark()
    for step in range(CALLS):
        work(step)
    _mark()


def _mark() -> None:
    os.getpriority(os.PRIO_PROCESS, 0)


def count() -> dict[str, dict[str, float]]:
    """By kind, instructions a call: of the call, and of the encoding alone."""
    counts: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--dump-before={MARK}"]
        command += [f"--callgrind-out-file={directory}/out", sys.executable, __file__, "--execute", made]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise SystemExit(ended.stderr)
        for number, (name, what) in enumerate(json.loads(ended.stdout), 1):
            counts.setdefault(name, {})[what] = _total(directory / f"out.{2 * number}-01")
    loop = counts.pop("nothing")["call"]
    return {name: {what: total - loop for what, total in of_one.items()} for name, of_one in counts.items()}


def _total(file: Path) -> float:
    """Instructions a call, from a file of callgrind."""
    match = re.search(r"^totals: (\d+)", file.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{file.name} of callgrind has no total")
    return int(match[1]) / CALLS


def _versions() -> str:
    return f"CPython {platform.python_version()}, msgspec {version('msgspec')}, {platform.machine()}"


def report(found: dict[str, dict[str, float]], *, keep: bool) -> int:
    """Print the figures beside those that were kept; 1 if one is too high."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"tolerance": 0.02, "figures": {}}
    before = kept["figures"].get(_versions(), {})
    rows: list[list[object]] = []
    risen = []
    for name, counts in found.items():
        call, held = counts["call"], before.get(name)
        rows.append([name, round(call), round(counts["encoding"]) if "encoding" in counts else "", held or ""])
        if held is not None and call > held * (1 + kept["tolerance"]):
            risen.append(f"{name}: {call:,.0f} instructions a call, {call / held - 1:+.1%}; {held:,} are kept")
    print_table(f"instructions a call, {_versions()}", ["", "call", "encoding", "kept"], rows)
    if keep:
        kept["figures"][_versions()] = {name: round(counts["call"]) for name, counts in found.items()}
        KEPT.write_text(json.dumps(kept, indent=2) + "\n")
        return 0
    if not before:
        print(f"\n{KEPT.name} has no figures of these versions to compare with; --keep adds these.")
    print("\n".join(risen))
    return 1 if risen else 0


if __name__ == "__main__":
    sys.exit(main())
