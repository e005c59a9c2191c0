"""The sink's settings."""

from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.settings import ARTIFACTS, STORE, STREAM, TOKEN, Setting
from runstream_schemas.streams import QueueStream, Stream, parse_stream
from runstream_sink.location import StoreLocation

__all__ = ["SINK_SETTINGS", "HttpOptions", "Options", "resolve"]

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

HTTP = Setting("http", "yes", "Whether the sink serves what it holds over HTTP.", choices=("yes", "no"))
HOST = Setting(
    "host",
    "127.0.0.1",
    "The address that is served. One that other machines reach needs a token, or RUNSTREAM_ALLOW_OPEN.",
)
PORT = Setting(
    "port",
    5600,
    "The port that is served. 0, or the default where it is taken: a free one, see http.json beside the store's "
    "database.",
)
ALLOWED_HOSTS = Setting(
    "allowed_hosts",
    "",
    "Names, besides localhost and the address, by which the server may be called; with commas. *: any.",
)
ALLOW_OPEN = Setting(
    "allow_open",
    "no",
    "Whether other machines may be served without a token: then they read and change everything.",
    choices=("yes", "no"),
)
MLFLOW_UI = Setting(
    "mlflow_ui",
    "no",
    "Whether the sink serves MLflow's own UI, of the mlflow that is installed beside it, at /mlflow.",
    choices=("yes", "no"),
)

SINK_SETTINGS: Final = (
    STREAM,
    STORE,
    ARTIFACTS,
    RETENTION_AGE,
    RETENTION_SIZE,
    LOG_LEVEL,
    LOG_FORMAT,
    HTTP,
    HOST,
    PORT,
    TOKEN,
    ALLOWED_HOSTS,
    ALLOW_OPEN,
    MLFLOW_UI,
)


class HttpOptions(NamedTuple):
    """Where and to whom the sink serves HTTP."""

    host: str
    """Without brackets."""
    port: int
    token: str
    """Empty: none is asked for."""
    allow_open: bool
    allowed_hosts: tuple[str, ...]
    """In lower case."""
    may_move: bool = False
    """Whether another port will do, since nobody has named this one."""
    mlflow_ui: bool = False
    """Whether MLflow's own UI is served too."""

    def __repr__(self) -> str:
        return f"HttpOptions({self.host!r}, {self.port}, token={'set' if self.token else 'none'})"


class Options(NamedTuple):
    """The settings that hold for one sink process."""

    stream: Stream
    store: StoreLocation
    artifacts: Path
    retention_age: float
    retention_size: int
    log_level: str
    log_format: str
    http: HttpOptions | None = None
    """None: nothing is served."""

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


def resolve(
    *,
    stream: str | None = None,
    store: str | None = None,
    artifacts: str | None = None,
    http: bool | None = None,
    host: str | None = None,
    port: int | None = None,
    allow_open: bool | None = None,
    mlflow_ui: bool | None = None,
) -> Options:
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
        http=_http(host, port, _word(allow_open), _word(mlflow_ui)) if HTTP.get(_word(http)) == "yes" else None,
    )


def _word(answer: bool | None) -> str | None:
    return None if answer is None else "yes" if answer else "no"


def _http(host: str | None, port: int | None, allow_open: str | None, mlflow_ui: str | None) -> HttpOptions:
    address = HOST.get(host).strip().removeprefix("[").removesuffix("]")
    number = PORT.get(port)
    if number >= 1 << 16:
        raise InvalidInputError(f"the port is {number}; it must be below 65536")
    names = tuple(name.strip().lower() for name in ALLOWED_HOSTS.get().split(",") if name.strip())
    return HttpOptions(
        host=address,
        port=number,
        token=TOKEN.get(),
        allow_open=ALLOW_OPEN.get(allow_open) == "yes",
        allowed_hosts=names,
        may_move=PORT.resolve(port).origin == "default",
        mlflow_ui=MLFLOW_UI.get(mlflow_ui) == "yes",
    )


def _artifact_directory(artifacts: str, location: StoreLocation) -> Path:
    if "://" in artifacts:
        raise InvalidInputError(f"artifacts at {artifacts!r} are not supported by this version; name a directory")
    return Path(artifacts).expanduser().absolute() if artifacts else location.artifacts
