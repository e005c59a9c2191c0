"""A process that logs mixed events, says what was accepted after each call, and waits to be killed.

Arguments: the producer's name, the id of the run it shares with others.  Each line on standard output is JSON and
acknowledges one call that has returned.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import runstream

__all__ = ["work"]


def acknowledge(*facts: Any) -> None:
    """Tell the parent, without a buffer that a kill could empty."""
    os.write(1, json.dumps(facts).encode() + b"\n")


def work(name: str, shared: str) -> None:
    """Log until killed.  ``name`` makes keys and ids unique among all producers that ever were."""
    choice = random.Random(name)
    with runstream.start_run(f"run of {name}", tags={"producer": name}) as run:
        acknowledge("run", run.run_id, name)
        step = 0
        while True:
            log_round(run, shared, f"{name}-{step}", step, choice)
            step += 1
            time.sleep(choice.random() / 100)  # the work between log calls


def made_file(unique: str) -> Path:
    """A file to log; the next one takes its place."""
    file = Path(f"{unique}.txt")
    file.write_text(unique * 10)
    return file


def log_round(run: runstream.Run, shared: str, unique: str, step: int, choice: random.Random) -> None:
    """Some calls of every kind."""
    for target in (run.run_id, shared):
        runstream.log_metric(f"m {unique.rpartition('-')[0]}", step / 3, step=step, run_id=target)
        acknowledge("metric", target, f"m {unique.rpartition('-')[0]}", step, step / 3)
    run.log_param(f"p{step}", unique)
    acknowledge("param", run.run_id, f"p{step}", unique)
    run.set_tag("last", unique)
    acknowledge("tag", run.run_id, "last", unique)
    row: dict[str, Any] = {"id": unique, "text": 'a "quoted", broken\ntext ' * choice.randrange(20)}
    row |= {f"column {choice.randrange(1 + step // 10)}": choice.random()}
    runstream.log_prediction(row, "shared", run_id=shared)
    acknowledge("row", shared, "shared", unique)
    rows = [{"id": f"{unique}-{number}", "n": number} for number in range(choice.randrange(1, 10))]
    run.log_table(rows, "own")
    for row in rows:
        acknowledge("row", run.run_id, "own", row["id"])
    if step % 10 == 0:
        runstream.log_artifact(made_file(unique), "files", run_id=shared)
        acknowledge("artifact", shared, f"files/{unique}.txt")
    if step % 5 == 0:
        runstream.log_text(unique * choice.randrange(1, 100), f"texts/{unique}.txt", run_id=shared)
        acknowledge("artifact", shared, f"texts/{unique}.txt")
        with runstream.start_run(f"inner {unique}", nested=True) as inner:
            acknowledge("run", inner.run_id, None)
            inner.log_params({"a": unique, "b": step})
            acknowledge("param", inner.run_id, "a", unique)
        acknowledge("ended", inner.run_id)


if __name__ == "__main__":
    work(*sys.argv[1:])
