"""What programs get and give where they read runs back: MLflow's entities, as far as they are about tracking."""

from runstream.tracking.datasets import Dataset, DatasetInput, InputTag
from runstream.tracking.entities import (
    Experiment,
    FileInfo,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunTag,
    ViewType,
)

__all__ = [
    "Dataset",
    "DatasetInput",
    "Experiment",
    "FileInfo",
    "InputTag",
    "Metric",
    "Param",
    "Run",
    "RunData",
    "RunInfo",
    "RunInputs",
    "RunTag",
    "ViewType",
]
