"""The sink's settings."""

from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.settings import ARTIFACTS, STORE, STREAM, Setting
from runstream_schemas.streams import QueueStream, Stream, parse_stream
from runstream_sink.location import StoreLocation

__all__ = ["SINK_SETTINGS", "Options", "resolve"]

RETENTION_AGE = Setting(
    "retention_age", 7 * 86400.0, "How long applied events stay in the queue directory, for replays.", unit="seconds"
)
RETENTION_SIZE = Setting(
    "retention_size",
    10 << 30,
    "How much of applied events stays in the queue directory, oldest freed first.",
    unit="bytes",
)
LOG_LEVEL = Setting(
    "log_level", "info", "Least severe log lines that are written.", choices=("debug", "info", "warning", "error")
)
LOG_FORMAT = Setting(
    "log_format",
    "auto",
    "How log lines look; auto: console on a terminal, JSON elsewhere.",
    choices=("auto", "console", "json"),
)

SINK_SETTINGS: Final = (STREAM, STORE, ARTIFACTS, RETENTION_AGE, RETENTION_SIZE, LOG_LEVEL, LOG_FORMAT)


class Options(NamedTuple):
    """The settings that hold for one sink process."""

    stream: Stream
    store: StoreLocation
    artifacts: Path
    retention_age: float
    retention_size: int
    log_level: str
    log_format: str

    @property
    def queue(self) -> Path:
        """The queue directory.  Raises `InvalidInputError` if the stream is none."""
        if isinstance(self.stream, QueueStream):
            return self.stream.directory
        raise InvalidInputError(f"the stream {self.stream} is in Kafka; here only a queue directory will do, queue:DIR")

    @property
    def staging(self) -> Path:
        """Where bytes of artifacts wait until they are published."""
        return self.queue / "staging" if isinstance(self.stream, QueueStream) else self.artifacts / ".staging"


def resolve(*, stream: str | None = None, store: str | None = None, artifacts: str | None = None) -> Options:
    """Settings from arguments, environment and defaults.  Raises `InvalidInputError` naming what is wrong."""
    location = StoreLocation.parse(STORE.get(store))
    return Options(
        stream=parse_stream(STREAM.get(stream)),
        store=location,
        artifacts=_artifact_directory(ARTIFACTS.get(artifacts), location),
        retention_age=RETENTION_AGE.get(),
        retention_size=RETENTION_SIZE.get(),
        log_level=LOG_LEVEL.get(),
        log_format=LOG_FORMAT.get(),
    )


def _artifact_directory(artifacts: str, location: StoreLocation) -> Path:
    if "://" in artifacts:
        raise InvalidInputError(f"artifacts at {artifacts!r} are not supported by this version; name a directory")
    return Path(artifacts).expanduser().absolute() if artifacts else location.artifacts
