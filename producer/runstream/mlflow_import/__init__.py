"""Moving in: ``runstream import-mlflow`` brings what a tracking store of MLflow's holds to a stream.

===============  ============================================================================
`source`         reads a tracking store, through MLflow's own client
`files`          fetches artifacts; `logged_tables` takes tables apart
`mapping`        pure: experiments and runs to events; `points` orders the points of metrics
`importer`       what is new of each run, with its identity
`publishing`     puts batches of it on the stream, whole or not at all; `ledger` remembers what was brought
`journals`       writes whole journals
===============  ============================================================================

Nothing here is imported by ``import runstream``, and MLflow itself by `source` alone.
"""

__all__: list[str] = []
