"""MLflow's own client on our stream: ``mlflow.set_tracking_uri("runstream+queue:DIR")``.

MLflow finds the modules by the entry points ``mlflow.tracking_store`` and ``mlflow.artifact_repository``.  They import
mlflow, which is imported already where they are.
"""
