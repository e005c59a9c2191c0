"""The producer's settings."""

import os
from pathlib import Path
from typing import Final, NamedTuple

from runstream_schemas.errors import InvalidInputError
from runstream_schemas.settings import ARTIFACTS, JOURNAL_DIR, STORE, STREAM, Setting

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
SEGMENT_SIZE = Setting("segment_size", 16 << 20, "Largest size of a journal segment.", unit="bytes")
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
EXPERIMENT = Setting("experiment", "", "The experiment of runs for which the program sets none. Empty: Default.")

PRODUCER_SETTINGS: Final = (
    STREAM,
    JOURNAL_DIR,
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
)


class Config(NamedTuple):
    """The settings that hold for this process."""

    queue: Path
    """The queue directory: ``journals``, ``staging`` and ``consumers`` lie in it."""
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


def resolve(
    *,
    stream: str | None = None,
    journal_dir: str | None = None,
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
) -> Config:
    """Settings from arguments, environment and defaults.  Raises `InvalidInputError` naming what is wrong.

    ``journal_dir`` has no meaning for a queue, whose journals lie in the queue directory.
    """
    del journal_dir
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
        queue=queue_directory(STREAM.get(stream)),
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
    )


def queue_directory(stream: str) -> Path:
    """The directory of a ``queue:DIR`` stream, made absolute, so that a later chdir does not move it."""
    scheme, _, rest = stream.partition(":")
    if scheme != "queue" or not rest:
        raise InvalidInputError(f"the stream {stream!r} is none that this version writes to; use queue:DIR")
    if not _is_file_name(rest):
        raise InvalidInputError(f"the stream {stream!r} names no directory that can exist")
    return _absolute(rest)


def _is_file_name(text: str) -> bool:
    """Whether the operating system could take it as a path."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


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
