"""Which datasets the runs of experiments have as inputs."""

from typing import Any, Final

from runstream_schemas.names import is_experiment_id
from runstream_sink.http.mlflow.call import Call, Endpoint
from runstream_sink.http.mlflow.documents import listed
from runstream_sink.http.mlflow.errors import invalid
from runstream_sink.http.mlflow.experiments import experiment_number
from runstream_sink.http.mlflow.fields import texts
from runstream_sink.http.mlflow.inputs import inputs_of
from runstream_sink.query.runs import search_runs

__all__ = ["ENDPOINTS"]

_MOST: Final = 1000
_MOST_EXPERIMENTS: Final = 20
_CONTEXT: Final = "mlflow.data.context"


async def _search(call: Call) -> dict[str, Any]:
    asked = call.values["experiment_ids"] or []
    if not asked:
        raise invalid("SearchDatasets request must specify at least one experiment_id.")
    if len(asked) > _MOST_EXPERIMENTS:
        raise invalid(
            f"SearchDatasets request cannot specify more than {_MOST_EXPERIMENTS} experiment_ids. "
            f"Received {len(asked)} experiment_ids."
        )
    ids = [experiment_number(experiment_id) for experiment_id in asked]
    ids = [experiment_id for experiment_id in ids if is_experiment_id(experiment_id)]
    found: dict[tuple[str, ...], dict[str, str]] = {}
    cursor = None
    while True:
        page = await search_runs(call.context.reader, ids, limit=_MOST, cursor=cursor)
        for run in page.runs:
            for entry in inputs_of(run):
                summary = _summary(run.experiment_id or "0", entry)
                found[tuple(summary.values())] = summary
        cursor = page.cursor
        if cursor is None or len(found) >= _MOST:
            return listed(dataset_summaries=[found[key] for key in sorted(found)][:_MOST])


def _summary(experiment_id: str, entry: dict[str, Any]) -> dict[str, str]:
    dataset = entry["dataset"]
    summary = {"experiment_id": experiment_id, "name": dataset["name"], "digest": dataset["digest"]}
    context = next((tag["value"] for tag in entry.get("tags", ()) if tag["key"] == _CONTEXT), None)
    return summary if context is None else {**summary, "context": context}


ENDPOINTS: Final = (Endpoint("POST", "experiments/search-datasets", _search, (texts("experiment_ids"),)),)
