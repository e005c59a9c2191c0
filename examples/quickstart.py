"""The least that is worth knowing: one run with params, metrics, prediction rows and a file.

    python examples/quickstart.py
    runstream sink --once
    runstream runs list

The program writes to ./runstream-data/queue; the sink applies what it finds there to ./runstream-data/store.
"""

import time

import runstream

PROMPTS = ("one two three", "the quick brown fox", "")


def answer(prompt: str) -> str:
    """Stands for a model."""
    return " ".join(reversed(prompt.split()))


def main() -> None:
    """Log one run."""
    runstream.set_experiment("quickstart")
    with runstream.start_run(run_name="first run") as run:
        runstream.log_params({"model": "reverse", "temperature": 0.0})
        for step, prompt in enumerate(PROMPTS):
            started = time.perf_counter()
            output = answer(prompt)
            runstream.log_metric("latency_ms", (time.perf_counter() - started) * 1e3, step=step)
            runstream.log_prediction({"prompt": prompt, "output": output, "words": len(output.split())})
        runstream.log_text("All prompts were answered.\n", "notes.txt")
        print(f"run {run.run_id} is logged; `runstream sink --once` makes tables and files of it")


if __name__ == "__main__":
    main()
