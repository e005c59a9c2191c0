"""What the demo logged, in the cells of a notebook: runs to pandas, predictions to DuckDB, a plot that compares them.

Run it after ``make demo`` (``runstream demo``), as a script or cell by cell in an editor that knows ``# %%``:

    python examples/analysis.py

It reads the store of the demo, or another one that ``RUNSTREAM_STORE`` names, or asks the sink at ``RUNSTREAM_URL``.
The plot is written to ``analysis.png`` in the working directory.  It needs pandas beside what the demo needs.
"""

# %% Where the results are
import os

import duckdb
from matplotlib.figure import Figure

import runstream

runstream.configure(store=os.environ.get("RUNSTREAM_STORE") or "runstream-data/demo/store")

# %% Runs to pandas: found by MLflow's grammar, the newest first
runs = runstream.search_runs(
    experiment_names=["humaneval"], filter_string="status = 'FINISHED' AND metrics.pass_rate > 0", max_results=10
)
shown = ["tags.mlflow.runName", "params.model", "params.max_tokens", "metrics.pass_rate", "metrics.mean_latency_ms"]
print(runs[shown].to_string(index=False))

# %% Predictions to DuckDB: the rows of all these runs as one table, and SQL over it
predictions = runstream.load_table("predictions", list(runs["run_id"]), extra_columns=["run_id"])
database = duckdb.connect()
database.register("runs", runs[["run_id", "params.max_tokens"]].rename(columns={"params.max_tokens": "max_tokens"}))
database.register("predictions", predictions)
summary = database.sql(
    """
    SELECT CAST(max_tokens AS INTEGER) AS max_tokens, count(*) AS prompts, avg(CAST(passed AS INTEGER)) AS pass_rate,
        quantile_cont(latency_ms, 0.95) AS p95_latency_ms, avg(tokens) AS mean_tokens
    FROM predictions JOIN runs USING (run_id) GROUP BY ALL ORDER BY ALL
    """
)
print(summary)

# %% What fails with few tokens and passes with many
print(
    database.sql(
        """
        SELECT task_id, string_agg(DISTINCT split_part(error, ':', 1), ', ') FILTER (NOT passed) AS error
        FROM predictions GROUP BY task_id HAVING bool_or(passed) AND NOT bool_and(passed) ORDER BY task_id LIMIT 5
        """
    )
)

# %% The runs side by side: the pass rate as it went on, and how it depends on the tokens that were allowed
figure = Figure(figsize=(9, 4), layout="constrained")
left, right = figure.subplots(1, 2)
for run_id, tokens in zip(runs["run_id"], runs["params.max_tokens"], strict=True):
    points = runstream.get_metric_history(run_id, "pass_rate")
    left.plot([point.step for point in points], [point.value for point in points], label=f"{tokens} tokens")
left.set(xlabel="prompts answered", ylabel="pass rate so far", ylim=(0, 1.05))
left.legend()
rows = summary.fetchall()
right.bar([str(row[0]) for row in rows], [row[2] for row in rows])
right.set(xlabel="max_tokens", ylabel="pass rate", ylim=(0, 1.05))
figure.savefig("analysis.png")
print("The plot: analysis.png")
