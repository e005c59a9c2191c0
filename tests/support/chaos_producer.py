"""A program that logs from several threads, says what was accepted after each call, and ends in order at SIGTERM.

Arguments: the program's name, the id of the run that it shares with others, how many threads.  Each line on standard
output is JSON, as those of support.crash_producer; the last one holds what was dropped.
"""

import random
import signal
import sys
import threading

import runstream
from support.crash_producer import acknowledge, log_round

__all__ = ["main"]

_LONGEST_PAUSE = 0.1
"""Seconds of work between log calls; brokers and sinks share the machine."""


def main(name: str, shared: str, threads: str) -> None:
    """Log until told to end."""
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
            step += 1
    acknowledge("ended", run.run_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
