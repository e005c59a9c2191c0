"""transformers' own MLflow callback, as its trainer calls it; run by an interpreter that has mlflow and transformers.

The trainer itself needs PyTorch; what it would compute is made up here.  The arguments are the tracking URI and a file,
in which what the program saw is written as JSON.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_MLFLOW_LOG_ARTIFACTS": "1",
    "MLFLOW_EXPERIMENT_NAME": "tuning",
    "MLFLOW_TAGS": '{"release": "rc1"}',
    "MLFLOW_TRACKING_URI": sys.argv[1],
}
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

from transformers import PreTrainedConfig, TrainerControl, TrainerState, TrainingArguments  # noqa: E402
from transformers.integrations import MLflowCallback  # noqa: E402
from transformers.trainer_callback import CallbackHandler  # noqa: E402

import mlflow  # noqa: E402 - the environment is set before


class Model:
    """What a trainer's model has that the callback looks at."""

    config = PreTrainedConfig(hidden_size=16, num_labels=3)


def main() -> None:
    """Train as a trainer does, as far as callbacks see it, and read what was logged."""
    target = Path(sys.argv[2])
    arguments = TrainingArguments(str(target.with_suffix(".out")), run_name="epoch by epoch", max_steps=20)
    state, control = TrainerState(), TrainerControl()
    callbacks = CallbackHandler([MLflowCallback()], Model(), None, None, None)
    callbacks.on_train_begin(arguments, state, control)
    for step in range(1, 21):
        state.global_step = step
        callbacks.on_step_end(arguments, state, control)
        callbacks.on_log(arguments, state, control, {"loss": 1 / step, "learning_rate": 0.1, "epoch": step / 10})
    checkpoint = Path(arguments.output_dir) / "checkpoint-20"
    checkpoint.mkdir(parents=True)
    (checkpoint / "weights.bin").write_bytes(b"weights")
    callbacks.on_save(arguments, state, control)
    callbacks.on_train_end(arguments, state, control)
    run = mlflow.search_runs(experiment_names=["tuning"], output_format="list")[0]
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    seen: dict[str, Any] = {
        "name": run.info.run_name,
        "status": run.info.status,
        "tags": run.data.tags["release"],
        "params": [run.data.params[key] for key in ("hidden_size", "max_steps")],
        "many": len(run.data.params) > 100,
        "loss": [[point.step, point.value] for point in history] == [[step, 1 / step] for step in range(1, 21)],
        "model": [model.name for model in mlflow.search_logged_models([run.info.experiment_id], output_format="list")],
    }
    files = Path(mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/checkpoint-20"))
    seen["weights"] = [path.read_text() for path in files.rglob("weights.bin")]
    target.write_text(json.dumps(seen))


if __name__ == "__main__":
    main()
