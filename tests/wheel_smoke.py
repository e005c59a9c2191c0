"""An installed wheel does its job: log, apply, digest.  `.ci/check-wheel` runs it outside the checkout."""

import subprocess
import sys
import tempfile
from pathlib import Path

import runstream


def main() -> None:
    """Log a run into a fresh stream, apply it, and look for its row and the store's digest."""
    with tempfile.TemporaryDirectory() as folder:
        stream, store = f"queue:{folder}/queue", Path(folder, "store")
        run_id = _log(stream)
        _command("sink", "--once", "--stream", stream, "--store", str(store))
        table = store / "artifacts" / run_id / "predictions.csv"
        assert "forty-two" in table.read_text(), f"{table} lacks the row that was logged"
        digest = _command("digest", str(store)).strip()
        assert digest, "the store has no digest"
        print(f"The wheel works: {digest}")


def _log(stream: str) -> str:
    """Log one run with a param, a metric and a row; return its id."""
    runstream.configure(stream=stream)
    runstream.set_experiment("smoke")
    with runstream.start_run() as run:
        runstream.log_param("model", "none")
        runstream.log_metric("latency", 0.5, step=1)
        runstream.log_prediction({"prompt": "6 * 7?", "answer": "forty-two"})
    runstream.close()
    return run.info.run_id


def _command(*arguments: str) -> str:
    """Run the installed `runstream` command; return what it prints."""
    program = Path(sys.executable).with_name("runstream")
    return subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


if __name__ == "__main__":
    main()
