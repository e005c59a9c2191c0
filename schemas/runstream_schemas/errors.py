"""The error hierarchy that producer and sink share.

Every message says what happened, to what, and what to do about it.  Errors that the calling program caused also
inherit from ``ValueError``; conditions of the environment (a full disk, a missing directory) do not.
"""

__all__ = [
    "CorruptDataError",
    "EnvironmentUnavailableError",
    "InvalidInputError",
    "MissingPayloadError",
    "NotFoundError",
    "ParamConflictError",
    "RunstreamError",
    "StoreInUseError",
    "StoreVersionError",
    "UnknownEventError",
    "UnsupportedFormatError",
]


class RunstreamError(Exception):
    """Base of every error that runstream raises on purpose."""


class InvalidInputError(RunstreamError, ValueError):
    """The caller passed something that can never be logged: wrong type, hostile name, unknown setting."""


class ParamConflictError(InvalidInputError):
    """A param of a run of this process was given a second, different value."""


class CorruptDataError(RunstreamError):
    """Bytes do not follow their format: bad checksum, truncated, or not decodable."""


class UnknownEventError(CorruptDataError):
    """A well-formed event whose type this version does not know."""


class UnsupportedFormatError(CorruptDataError):
    """A format version that this version cannot read."""


class NotFoundError(RunstreamError):
    """The store holds nothing of that name or id."""


class MissingPayloadError(RunstreamError):
    """The payload of a claimed record batch is not there, or is another: its events are lost.

    ``first_seq`` and ``count`` say which seqs of ``producer_id`` they have.
    """

    def __init__(self, message: str, producer_id: bytes = b"", first_seq: int = 0, count: int = 0) -> None:
        super().__init__(message)
        self.producer_id = producer_id
        self.first_seq = first_seq
        self.count = count


class EnvironmentUnavailableError(RunstreamError):
    """Something outside the program is missing or refuses: a directory, a file, a lock, a stream."""


class StoreInUseError(EnvironmentUnavailableError):
    """Another sink process holds the store."""


class StoreVersionError(RunstreamError):
    """The store was written by a newer version of runstream."""
