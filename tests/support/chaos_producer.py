"""A program that logs from several threads, says what was accepted after each call, and ends in order at SIGTERM.

Arguments: the program's name, the id of the run that it shares with others, how many threads.  Each line on standard
output is JSON, as those of support.crash_producer; the last one holds what was dropped.  What the program says on
standard error goes to a file in its directory, NAME.err.
"""

import os
import random
import signal
import sys
import threading

import runstream
from support.crash_producer import acknowledge, log_round

__all__ = ["main"]

_LONGEST_PAUSE = 0.1
"""Seconds of work between log calls; brokers and sinks share the machine."""
_LARGE = 0.1
"""How many of the rounds of calls have a large row among them."""


def main(name: str, shared: str, threads: str) -> None:
    """Log until told to end."""
    os.dup2(os.open(f"{name}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    workers = [
        threading.Thread(target=_work, args=(f"{name}t{number}", shared, over)) for number in range(int(threads))
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    acknowledge("dropped", runstream.stats()["dropped"])


def _work(name: str, shared: str, over: threading.Event) -> None:
    choice = random.Random(name)
    with runstream.start_run(f"run of {name}", tags={"producer": name}) as run:
        acknowledge("run", run.run_id, name)
        step = 0
        while not over.wait(choice.random() * _LONGEST_PAUSE):
            log_round(run, shared, f"{name}-{step}", step, choice)
            if choice.random() < _LARGE:
                _log_large(shared, f"{name}-{step}", choice)
            step += 1
    acknowledge("ended", run.run_id)


def _log_large(shared: str, unique: str, choice: random.Random) -> None:
    """A row that some topics do not take in one message."""
    runstream.log_prediction({"id": unique, "text": choice.randbytes(20_000).hex()}, "large", run_id=shared)
    acknowledge("row", shared, "large", unique)


if __name__ == "__main__":
    main(*sys.argv[1:])
