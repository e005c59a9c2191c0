"""Logs what a page may show: three runs with params, metrics, notes, files and a table, one with a series of images.

Prints the ids of the runs.
"""

import json
import sys

from PIL import Image

import runstream

SCRIPT = "document.getElementById('said').textContent = `origin ${window.origin}`"
HTML = f"<h1 id=said>no script has run</h1><script>{SCRIPT}</script>"
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' width='50' height='40'><rect width='50' height='40' fill='red'/>"
    "<script>alert('a script of an image has run')</script></svg>"
)
NOTE = "# A note\nwith **words**, and markup <img src='lost.png' onerror='alert(1)'>"


def log(number: int) -> str:
    """One run; its id."""
    with runstream.start_run(run_name=f"night {number}") as run:
        runstream.log_params({"model": f"model-{number}", "temperature": number / 10})
        for step in range(30):
            runstream.log_metrics({"loss": 1 / (step + 1 + number), "accuracy": step / 30}, step=step)
        runstream.log_metric("final", 0.5 + number)
        runstream.log_metric("undefined", float("nan"))
        runstream.set_tag("mlflow.note.content", NOTE)
        runstream.log_text("words of a file", "notes/hello.txt")
        runstream.log_text(HTML, "page.html")
        runstream.log_text(SVG, "picture.svg")
        runstream.log_image(Image.new("RGB", (40, 30), (200, 0, 0)), "red.png")
        answers = {
            "prompt": ["Hi", "Ho"],
            "answer": [f"Hello {number}", "?"],
            "score": [1.5, None],
        }
        runstream.log_table(answers, "answers.json")
        return run.info.run_id


def main(stream: str) -> None:
    """Log to a stream."""
    runstream.configure(stream=stream)
    runstream.set_experiment("summaries")
    runs = [log(number) for number in range(3)]
    runstream.set_experiment("drafts")
    with runstream.start_run(run_name="draft") as run:
        for step in range(3):
            runstream.log_image(Image.new("RGB", (60, 20), (0, 80 * step, 0)), key="sample", step=step)
        print(json.dumps([*runs, run.info.run_id]))
    runstream.close()


if __name__ == "__main__":
    main(sys.argv[1])
