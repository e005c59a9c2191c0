"""Log what an LLM program does, without making it wait: ``import runstream as mlflow`` works.

Every call leaves a typed event in this process's journal and returns after microseconds; a sink service, its own
process, makes experiments, runs, CSV tables and artifacts of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from runstream.fluent import *  # noqa: F403 - the public functions, listed in fluent.__all__
from runstream.fluent import __all__ as _functions
from runstream.reading import *  # noqa: F403 - likewise, listed in reading.__all__
from runstream.reading import __all__ as _reading
from runstream.run import Run

if TYPE_CHECKING:
    from runstream import entities
    from runstream.tracking.client import MlflowClient

__version__ = "0.1.0"

__all__ = [*_functions, *_reading, "MlflowClient", "Run", "__version__", "entities"]  # noqa: PLE0604 - all of them are str

_MODULES = ("entities", "tracking")
"""Modules that few programs use: loaded when they are first asked for, as `MlflowClient` is."""


def __getattr__(name: str) -> Any:
    if name == "MlflowClient":
        return importlib.import_module("runstream.tracking.client").MlflowClient
    if name in _MODULES:
        return importlib.import_module(f"runstream.{name}")
    raise AttributeError(f"module 'runstream' has no attribute {name!r}; docs/mlflow.md says what there is")
