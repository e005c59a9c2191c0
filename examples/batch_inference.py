"""Batch inference over HumanEval, logged with runstream: what `make demo` and `runstream demo` run.

    python examples/batch_inference.py [--dir DIR] [--limit N] [--base-url URL --model NAME]

A model completes HumanEval's prompts in two runs of the experiment ``humaneval``; in the second its answers are cut
after fewer tokens.  Whether an answer passes is decided by executing it.  The answers are HumanEval's reference
solutions, unless an OpenAI-compatible server is named.  A sink, its own process, turns what was logged into a store;
then the results are shown, and the stream is replayed into a fresh store, which must say the same.

What an earlier call left in DIR stays: each call adds two runs to the same store.
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from humaneval import Model, Problem, Reference, Server, check, load
from matplotlib.figure import Figure
from report import RUNSTREAM, command, console, show_command, show_next, show_progress, show_results

import runstream

__all__ = ["main"]

EXPERIMENT: Final = "humaneval"
MAX_TOKENS: Final = (256, 48)
TEMPERATURE: Final = 0.0
REQUESTS: Final = 16
"""How many prompts a server is asked at the same time."""
APPLY_TIMEOUT: Final = 60.0
"""Seconds that the sink may take to apply what is left when the runs have ended."""


@dataclasses.dataclass
class Result:
    """What became of one prompt: a row of the table ``predictions``."""

    task_id: str
    prompt: str
    output: str
    passed: bool
    tokens: int
    latency_ms: float
    check_ms: float
    error: str


@dataclasses.dataclass
class ModelCard:
    """What is worth knowing of a model and its evaluation."""

    model: str
    dataset: str
    max_tokens: int
    temperature: float
    prompts: int
    pass_rate: float
    mean_latency_ms: float


class Limits:
    """How much is done at the same time."""

    def __init__(self) -> None:
        self.requests = asyncio.Semaphore(REQUESTS)
        self.programs = asyncio.Semaphore(os.cpu_count() or 1)


async def infer(model: Model, problems: Sequence[Problem], max_tokens: int) -> str:
    """One run: every prompt answered, checked and logged.  Returns the run's id."""
    name = f"max_tokens {max_tokens}"
    async with runstream.start_run(run_name=name, tags={"dataset": "HumanEval"}) as run:
        runstream.log_params({"model": model.name, "max_tokens": max_tokens, "temperature": TEMPERATURE})
        runstream.log_params({"prompts": len(problems), "requests": REQUESTS})
        limits = Limits()
        work = [asyncio.create_task(solve(model, problem, max_tokens, limits)) for problem in problems]
        results: list[Result] = []
        for done in show_progress(asyncio.as_completed(work), len(work), name):
            results.append(await done)
            log_result(results)
        log_summary(model, max_tokens, results)
        return run.run_id


def log_result(results: list[Result]) -> None:
    """Log the last result: a point of each metric, and a row."""
    step, result = len(results), results[-1]
    metrics = {
        "latency_ms": result.latency_ms,
        "check_ms": result.check_ms,
        "completion_tokens": result.tokens,
        "pass_rate": sum(one.passed for one in results) / step,
    }
    runstream.log_metrics(metrics, step=step)
    runstream.log_prediction(dataclasses.asdict(result))


async def solve(model: Model, problem: Problem, max_tokens: int, limits: Limits) -> Result:
    """Ask the model for one answer, and check it."""
    async with limits.requests:
        asked = time.perf_counter()
        answer = await model.answer(problem, max_tokens)
        latency = time.perf_counter() - asked
    async with limits.programs:
        started = time.perf_counter()
        verdict = await check(problem, answer.text)
        checking = time.perf_counter() - started
    return Result(
        task_id=problem.task_id,
        prompt=problem.prompt,
        output=answer.text,
        passed=verdict.passed and not answer.error,
        tokens=answer.tokens,
        latency_ms=latency * 1e3,
        check_ms=checking * 1e3,
        error=answer.error or verdict.error,
    )


def log_summary(model: Model, max_tokens: int, results: list[Result]) -> None:
    """Log what is known at the end: summary metrics, a plot, a Parquet file and a model card."""
    pass_rate = sum(result.passed for result in results) / len(results)
    latency = sum(result.latency_ms for result in results) / len(results)
    runstream.log_metrics({"mean_latency_ms": latency, "total_tokens": sum(result.tokens for result in results)})
    runstream.log_figure(plot(results), "pass_rate.png")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "results.parquet"
        pq.write_table(pa.Table.from_pylist([dataclasses.asdict(result) for result in results]), file)
        runstream.log_artifact(file)
    card = ModelCard(model.name, "HumanEval", max_tokens, TEMPERATURE, len(results), pass_rate, latency)
    runstream.log_dict(dataclasses.asdict(card), "model/card.json")


def plot(results: list[Result]) -> Figure:
    """The pass rate so far, and the tokens of each answer."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    steps = range(1, len(results) + 1)
    passed = itertools.accumulate(result.passed for result in results)
    above.plot(steps, [count / step for step, count in zip(steps, passed, strict=True)])
    above.set(ylabel="pass rate so far", ylim=(0, 1.05))
    below.bar(steps, [result.tokens for result in results], color=["C2" if one.passed else "C3" for one in results])
    below.set(ylabel="tokens (red: failed)", xlabel="prompts answered")
    return figure


@contextmanager
def sink(stream: str, store: Path, log: Path) -> Iterator[None]:
    """A sink process while the block runs; at its end, everything that was logged is applied."""
    with log.open("ab") as errors:
        command = [RUNSTREAM, "sink", "--stream", stream, "--store", str(store), "--no-http"]
        process = subprocess.Popen(command, stderr=errors)
    try:
        yield
        if not applied(stream, store, process):
            raise SystemExit(f"the sink ended early, or did not apply everything in time; see {log}")
    finally:
        process.terminate()
        code = process.wait(APPLY_TIMEOUT)
    if code != 0:
        raise SystemExit(f"the sink ended with exit code {code}; see {log}")


def applied(stream: str, store: Path, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the store has all that the stream holds; False if the sink ends before, or takes too long."""
    deadline = time.monotonic() + APPLY_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        status = json.loads(command("status", "--stream", stream, "--store", str(store), "--json"))
        if status["backlog_events"] == 0:
            return True
    return False


def replay_equals(stream: str, store: Path, directory: Path) -> bool:
    """Replay the stream into a fresh store, and compare what the two stores say."""
    digest = command("digest", str(store)).strip()
    with tempfile.TemporaryDirectory(prefix="replay-", dir=directory) as fresh:
        show_command("replay", "--stream", stream, "--store", fresh)
        replayed = command("digest", fresh).strip()
    console.print(f"digest of the store:  {digest}\ndigest of the replay: {replayed}", soft_wrap=True)
    return digest == replayed


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Batch inference over HumanEval, logged with runstream.")
    parser.add_argument("--dir", type=Path, default=Path("runstream-data/demo"), help="where stream and store lie")
    parser.add_argument("--limit", type=int, help="answer the first LIMIT prompts only")
    parser.add_argument("--base-url", help="an OpenAI-compatible server, such as http://localhost:8000/v1")
    parser.add_argument("--model", help="the server's model")
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    if (options.base_url is None) != (options.model is None):
        parser.error("--base-url and --model belong together")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; exit code 1 if the replay is not equal to the store."""
    options = parse(arguments)
    directory = options.dir.absolute()
    directory.mkdir(parents=True, exist_ok=True)
    stream, store = f"queue:{directory / 'queue'}", directory / "store"
    # Replays of the demo shall find all of the stream, also that of calls long ago.
    os.environ |= {"RUNSTREAM_RETENTION_AGE": "1e10", "RUNSTREAM_RETENTION_SIZE": "1000GiB", "RUNSTREAM_ARTIFACTS": ""}
    runstream.configure(stream=stream, store=str(store))
    experiment = runstream.set_experiment(EXPERIMENT)
    model = Server(options.base_url, options.model, TEMPERATURE, REQUESTS) if options.base_url else Reference()
    problems = load(options.limit)
    with sink(stream, store, directory / "sink.log"):
        run_ids = [asyncio.run(infer(model, problems, max_tokens)) for max_tokens in MAX_TOKENS]
        runstream.close()
    show_results(store, run_ids)
    equal = replay_equals(stream, store, directory)
    console.print(f"{'equal' if equal else '[bold red]DIFFERENT[/]'}; the results lie in {store}", soft_wrap=True)
    show_next(stream, store, experiment.experiment_id)
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
