"""The producer's settings."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.settings import ARTIFACTS, JOURNAL_DIR, STORE, STREAM, URL, Setting
from runstream_schemas.streams import KafkaStream, Stream, journal_directory, parse_stream

__all__ = ["PRODUCER_SETTINGS", "Config", "resolve"]

JOURNAL_QUOTA = Setting(
    "journal_quota",
    4 << 30,
    "Most bytes of this process's journal that no consumer has applied yet; beyond, events are dropped or wait.",
    unit="bytes",
)
POLICY = Setting(
    "policy", "drop", "What a log call does at the quota: drop (and count) or block.", choices=("drop", "block")
)
BLOCK_TIMEOUT = Setting(
    "block_timeout", 10.0, "How long a call may wait under the policy block before it drops.", unit="seconds"
)
SYNC_INTERVAL = Setting(
    "sync_interval",
    1.0,
    "How often the journal is synced to the disk; what is younger may be lost in a power cut.",
    unit="seconds",
)
SEGMENT_SIZE = Setting("segment_size", 64 << 20, "Largest size of a journal segment.", unit="bytes")
CLAIM_SIZE = Setting(
    "claim_size", 1 << 20, "A cell of a row that is larger becomes an artifact, to which the row refers.", unit="bytes"
)
BACKGROUND_SIZE = Setting(
    "background_size",
    256 << 20,
    "A file given to log_artifact that is larger is copied in the background.",
    unit="bytes",
)
SAMPLE = Setting("sample", 1.0, "The share that is logged, between 0 and 1, of runs' rows and points or of rows.")
SAMPLE_BY = Setting("sample_by", "run", "What the sample is made of: whole runs, or rows.", choices=("run", "row"))
SAMPLE_KEY = Setting(
    "sample_key", "", "The column that decides whether a row is in the sample by row. Empty: all of the row."
)
SHIPPER = Setting(
    "shipper",
    "auto",
    "Who ships the journals to Kafka: a process that the first program starts, or one that you run (runstream ship).",
    choices=("auto", "external"),
)
EXPERIMENT = Setting("experiment", "", "The experiment of runs for which the program sets none. Empty: Default.")
READ_WAIT = Setting(
    "read_wait",
    10.0,
    "How long a read from a program waits until a running sink has applied what the program logged before.",
    unit="seconds",
)

PRODUCER_SETTINGS: Final = (
    STREAM,
    JOURNAL_DIR,
    SHIPPER,
    JOURNAL_QUOTA,
    POLICY,
    BLOCK_TIMEOUT,
    SYNC_INTERVAL,
    SEGMENT_SIZE,
    CLAIM_SIZE,
    BACKGROUND_SIZE,
    SAMPLE,
    SAMPLE_BY,
    SAMPLE_KEY,
    EXPERIMENT,
    STORE,
    ARTIFACTS,
    URL,
    READ_WAIT,
)


class Config(NamedTuple):
    """The settings that hold for this process."""

    stream: Stream
    queue: Path
    """The queue directory, or the journal directory of a stream in Kafka: ``journals`` and ``consumers`` lie in it."""
    staging: Path
    """Where bytes of artifacts go: where the sink reaches them, or, with Kafka, else to where they are shipped from."""
    shipper: str
    journal_quota: int
    policy: str
    block_timeout: float
    sync_interval: float
    segment_size: int
    claim_size: int
    background_size: int
    sample: float
    sample_by: str
    sample_key: str
    experiment: str
    store: str
    artifacts: str
    url: str
    read_wait: float


def resolve(
    *,
    stream: str | None = None,
    journal_dir: str | None = None,
    shipper: str | None = None,
    journal_quota: int | str | None = None,
    policy: str | None = None,
    block_timeout: float | None = None,
    sync_interval: float | None = None,
    segment_size: int | str | None = None,
    claim_size: int | str | None = None,
    background_size: int | str | None = None,
    sample: float | None = None,
    sample_by: str | None = None,
    sample_key: str | None = None,
    experiment: str | None = None,
    store: str | None = None,
    artifacts: str | None = None,
    url: str | None = None,
    read_wait: float | None = None,
) -> Config:
    """Settings from arguments, environment and defaults.  Raises `InvalidInputError` naming what is wrong.

    ``journal_dir`` and ``shipper`` have no meaning for a queue, whose journals lie in the queue directory.
    """
    target = parse_stream(STREAM.get(stream))
    queue = _directory_of(target, JOURNAL_DIR.get(journal_dir))
    size = SEGMENT_SIZE.get(segment_size)
    if size < _LEAST_SEGMENT:
        raise InvalidInputError(f"segment_size is {size} bytes; it must be at least {_LEAST_SEGMENT}")
    share = SAMPLE.get(sample)
    if not 0 <= share <= 1:
        raise InvalidInputError(f"sample is {share}; it must be a share between 0 and 1")
    claims = CLAIM_SIZE.get(claim_size)
    if claims < _LEAST_CLAIM:
        raise InvalidInputError(f"claim_size is {claims} bytes; it must be at least {_LEAST_CLAIM}")
    return Config(
        stream=target,
        queue=queue,
        staging=_staging(target, queue, ARTIFACTS.get(artifacts)),
        shipper=SHIPPER.get(shipper),
        journal_quota=JOURNAL_QUOTA.get(journal_quota),
        policy=POLICY.get(policy),
        block_timeout=BLOCK_TIMEOUT.get(block_timeout),
        sync_interval=SYNC_INTERVAL.get(sync_interval),
        segment_size=size,
        claim_size=claims,
        background_size=BACKGROUND_SIZE.get(background_size),
        sample=share,
        sample_by=SAMPLE_BY.get(sample_by),
        sample_key=SAMPLE_KEY.get(sample_key),
        experiment=EXPERIMENT.get(experiment),
        store=STORE.get(store),
        artifacts=_artifact_root(ARTIFACTS.get(artifacts), STORE.get(store)),
        url=URL.get(url),
        read_wait=READ_WAIT.get(read_wait),
    )


def _directory_of(stream: Stream, journal_dir: str) -> Path:
    """Where this process's journals lie."""
    return journal_directory(stream, _absolute(journal_dir)) if isinstance(stream, KafkaStream) else stream.directory


def _staging(stream: Stream, queue: Path, artifacts: str) -> Path:
    """Where the sink looks for bytes, if it is known; else the place from which they are shipped."""
    reached = isinstance(stream, KafkaStream) and artifacts and "://" not in artifacts
    return _absolute(artifacts) / ".staging" if reached else queue / "staging"


def _artifact_root(artifacts: str, store: str) -> str:
    if artifacts:
        return artifacts if "://" in artifacts else str(_absolute(artifacts))
    if store.startswith("sqlite:///"):
        return str(_absolute(store.removeprefix("sqlite:///")).parent / "artifacts")
    return str(_absolute(store) / "artifacts")


def _absolute(path: str) -> Path:
    expanded = Path(os.path.expanduser(path))  # noqa: PTH111 - which raises where there is no such user
    try:
        return expanded.absolute()
    except OSError:  # the working directory is gone: nothing can be made there, until the program goes elsewhere
        return expanded


_LEAST_SEGMENT: Final = 64 << 10
_LEAST_CLAIM: Final = 1 << 10
