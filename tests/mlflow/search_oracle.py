"""What MLflow's own store answers to searches; run by an interpreter that has mlflow.

Standard input and output carry one JSON document a line.  The first says what is logged, and is answered with the
experiments as MLflow has them; each further one is a search, answered with ids or with the class of the exception.
The only argument is the directory of the database.
"""

import json
import logging
import sys
import uuid
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

from mlflow.entities import (  # noqa: E402 - the warnings are of imports
    ExperimentTag,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.store.tracking import sqlalchemy_store  # noqa: E402

VIEWS = {"active": ViewType.ACTIVE_ONLY, "deleted": ViewType.DELETED_ONLY, "all": ViewType.ALL}


def main() -> None:
    """Answer until the input ends."""
    root = Path(sys.argv[1])
    store = sqlalchemy_store.SqlAlchemyStore(f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts"))
    answer(fill(store, json.loads(sys.stdin.readline())))
    for line in sys.stdin:
        answer(search(store, json.loads(line)))


def answer(document: Any) -> None:
    """One line."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def fill(store: Any, logged: dict[str, Any]) -> list[dict[str, Any]]:
    """Log everything; return the experiments."""
    ids = [store.create_experiment(name) for name in logged["experiments"]]
    for run in logged["runs"]:
        log_run(store, ids, run)
    for at, new_name in logged["renamed"].items():
        store.rename_experiment(ids[int(at)], new_name)
    for at, key, value in logged["experiment_tags"]:
        store.set_experiment_tag(ids[at], ExperimentTag(key, value))
    found = [store.get_experiment(experiment_id) for experiment_id in ["0", *ids]]
    return [
        {"id": e.experiment_id, "name": e.name, "created": e.creation_time, "updated": e.last_update_time}
        for e in found
    ]


def log_run(store: Any, ids: list[str], run: dict[str, Any]) -> None:
    """One run, with an id that is given."""
    made, uuid.uuid4 = uuid.uuid4, lambda: SimpleNamespace(hex=run["run_id"])  # type: ignore[assignment,return-value]
    try:
        store.create_run(ids[run["experiment"]], run["user"], run["start_time"], [], run["name"])
    finally:
        uuid.uuid4 = made
    metrics = [Metric(key, float(value), 1, 0) for key, value in run["metrics"].items()]
    params = [Param(key, value) for key, value in run["params"].items()]
    store.log_batch(run["run_id"], metrics, params, [RunTag(key, value) for key, value in run["tags"].items()])
    if run["status"] != "RUNNING":
        status = RunStatus.from_string(run["status"])
        store.update_run_info(run["run_id"], status, run["end_time"], run["name"])
    if run["deleted"]:
        store.delete_run(run["run_id"])


def search(store: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The ids that a search finds, in its order."""
    view = VIEWS[asked["lifecycle"]]
    try:
        if asked["of"] == "experiments":
            found = store.search_experiments(view, 1000, asked["filter"], asked["order_by"])
            return {"found": [experiment.experiment_id for experiment in found]}
        found = store.search_runs(asked["experiments"], asked["filter"], view, 1000, asked["order_by"])
    except Exception as error:  # noqa: BLE001 - whatever it is, MLflow does not answer
        return {"error": f"{type(error).__name__}: {error}"}
    return {"found": [run.info.run_id for run in found]}


if __name__ == "__main__":
    main()
