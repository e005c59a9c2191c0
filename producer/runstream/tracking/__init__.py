"""What a program reads back: runs, experiments, histories and artifacts, over HTTP or straight from the store.

`records` is what sources give, `entities` what programs get, with MLflow's attribute names.  Nothing here is imported
before a program reads.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runstream.tracking.client import MlflowClient

__all__ = ["MlflowClient"]


def __getattr__(name: str) -> Any:
    if name == "MlflowClient":
        from runstream.tracking import client

        return client.MlflowClient
    raise AttributeError(f"module 'runstream.tracking' has no attribute {name!r}")
