"""Ways to log a metric and a row of 2 KB, each as its users would write it, for the benchmark ``peers``.

Each is a `Logger`: a small class that says what has become of an event when its call returns, and what happens when it
is logged faster than it is carried away.
"""

from loggers.base import METRIC, ROW, Logger
from loggers.brokers import Aiokafka, Librdkafka
from loggers.mlflow import MlflowAsynchronous, MlflowRest, MlflowSynchronous
from loggers.standard import LoggingFile, LoggingQueue, Runstream
from loggers.tracing import Langfuse, OpenTelemetry
from loggers.wandb import WandbOffline

__all__ = ["LOGGERS", "METRIC", "ROW", "Logger"]

LOGGERS: dict[str, type[Logger]] = {
    "runstream": Runstream,
    "logging queue": LoggingQueue,
    "logging file": LoggingFile,
    "librdkafka": Librdkafka,
    "aiokafka": Aiokafka,
    "OpenTelemetry": OpenTelemetry,
    "langfuse": Langfuse,
    "wandb offline": WandbOffline,
    "mlflow asynchronous": MlflowAsynchronous,
    "mlflow synchronous": MlflowSynchronous,
    "mlflow REST": MlflowRest,
}
