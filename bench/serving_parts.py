"""Which part of logging costs a server what: the log calls, and the background thread.

In place of a server there is a loop that does other work of about 150 µs a request (parsing a request's head and JSON,
regular expressions, formatting), so that log calls find the caches as a server leaves them.  It logs every request, or
none, in turns of some hundred requests; CPU time is counted by thread, so that what else the machine does is left out
but for the caches that it shares.  One row of 2 KB and four metrics a request, ``--rate`` requests a second.

* log calls: CPU time of the calling thread, with logging less without.  ``hot``: the same calls in a loop of their own.
* background thread: segments, their pages, syncs.  The kernel's own threads, which write pages out, are not counted.
"""

import argparse
import email.parser
import json
import re
import statistics
import tempfile
import threading
import time
from pathlib import Path
from pydoc_data.topics import topics

from timing import print_table, write_json

import runstream

TURN = 200
"""Requests between which nothing is looked at."""


def main() -> None:
    """Measure and print."""
    options = _parse()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        runstream.configure(stream=f"queue:{directory}/queue", journal_quota="64GiB")
        found = measure(runstream.start_run(), options)
        runstream.close()
    rows = [[name, *(of_one[column] for column in ("median", "low", "high"))] for name, of_one in found.items()]
    print_table("us of CPU a request", ["", "median", "first quartile", "third quartile"], rows)
    write_json(options.output, found, options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="of --seconds each")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rate", type=float, default=5000, help="requests a second; 0: as many as can be")
    parser.add_argument("--directory", type=Path, help="where the queue lies meanwhile")
    parser.add_argument("--output", type=Path, default=Path("build/bench/serving-parts.json"))
    return parser.parse_args()


def measure(run: runstream.Run, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By part, microseconds a request."""
    log, work = Log(run), Work()
    parts: dict[str, list[float]] = {"request without logging": [], "log calls": [], "background thread": [], "hot": []}
    for _ in range(options.rounds):
        bare, logging, background = _round(work, log, options)
        parts["request without logging"].append(bare)
        parts["log calls"].append(logging - bare)
        parts["background thread"].append(background)
        parts["hot"].append(_hot(log))
    logged = zip(parts["log calls"], parts["background thread"], strict=True)
    parts["all of logging"] = [calls + background for calls, background in logged]
    return {name: _summary(values) for name, values in parts.items()}


def _round(work: "Work", log: "Log", options: argparse.Namespace) -> tuple[float, float, float]:
    """Of the calling thread without and with logging, and of the background thread for each request that was logged."""
    used, done = [0, 0], [0, 0]
    threads = [one for one in threading.enumerate() if one is not threading.current_thread()]
    before = sum(_used_by(one) for one in threads)
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < options.seconds:
        if options.rate and sum(done) > elapsed * options.rate:
            time.sleep(0.001)
        logs = done[1] < done[0]
        start = time.thread_time_ns()
        for _ in range(TURN):
            prompt, answer = work.request()
            if logs:
                log.request(prompt, answer)
        used[logs] += time.thread_time_ns() - start
        done[logs] += TURN
    background = sum(_used_by(one) for one in threads) - before
    return used[0] / done[0] / 1e3, used[1] / done[1] / 1e3, background / done[1] / 1e3


def _hot(log: "Log") -> float:
    start = time.thread_time_ns()
    for _ in range(1000):
        log.request("p" * 1000, "a" * 900)
    return (time.thread_time_ns() - start) / 1e6


def _used_by(thread: threading.Thread) -> int:
    """Nanoseconds of CPU that a thread has used."""
    return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0])


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "median": statistics.median(ordered),
        "low": ordered[len(ordered) // 4],
        "high": ordered[len(ordered) * 3 // 4],
    }


class Log:
    """Logs requests."""

    def __init__(self, run: runstream.Run) -> None:
        self._run = run
        self._step = 0

    def request(self, prompt: str, answer: str) -> None:
        """One row and four metrics."""
        self._step += 1
        run, status = self._run, "ok"
        row = {"prompt": prompt, "answer": answer, "prompt_tokens": 164, "completion_tokens": 128}
        run.log_prediction({**row, "latency_ms": 12.25, "status": status})
        metrics = {"latency_ms": 12.25, "prompt_tokens": 164, "completion_tokens": 128, "ok": status == "ok"}
        run.log_metrics(metrics, step=self._step)


class Work:
    """What a server does besides."""

    _words = re.compile(r"\w+")

    def __init__(self) -> None:
        text = "".join(topics[name] for name in sorted(topics)).encode("ascii", "replace").decode()
        self._bodies = [json.dumps({"prompt": text[at : at + 1000]}) for at in range(0, 256_000, 1000)]
        self._answers = [text[at : at + 900] for at in range(0, 256_000, 1000)]
        self._number = 0

    def request(self) -> tuple[str, str]:
        """A prompt and its answer, after some work."""
        number = self._number = (self._number + 1) % len(self._bodies)
        head = email.parser.Parser().parsestr(f"Host: localhost\nContent-Length: {number}\nAccept: */*\n\n")
        prompt = json.loads(self._bodies[number])["prompt"]
        words = self._words.findall(prompt.lower())
        answer = self._answers[number]
        json.dumps({"id": head["Host"], "words": len(set(words)), "choices": [{"message": {"content": answer}}]})
        return prompt, answer


if __name__ == "__main__":
    main()
