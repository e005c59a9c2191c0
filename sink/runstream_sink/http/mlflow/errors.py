"""Errors in MLflow's form: a code, a message, and the status that goes with the code.

A status of 500 or more makes MLflow's client try again for minutes; it is given only where that can help.
"""

from typing import Any, Final

import msgspec
import structlog
from litestar import Response
from litestar.exceptions import HTTPException

from runstream_schemas.errors import CorruptDataError, EnvironmentUnavailableError, InvalidInputError, RunstreamError
from runstream_sink.http.problems import RETRY_AFTER
from runstream_sink.query.records import NotFoundError

__all__ = ["MlflowError", "invalid", "missing", "to_answer", "unknown_endpoint"]

_log = structlog.get_logger(__name__)

_STATUS: Final = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "INVALID_STATE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "DATA_LOSS": 500,
    "INTERNAL_ERROR": 500,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}
_CLASSES: Final = {
    "BAD_REQUEST": "INVALID_PARAMETER_VALUE",
    "INVALID_PARAMETER_VALUE": "INVALID_PARAMETER_VALUE",
    "RESOURCE_ALREADY_EXISTS": "RESOURCE_ALREADY_EXISTS",
    "ENDPOINT_NOT_FOUND": "RESOURCE_NOT_FOUND",
    "RESOURCE_DOES_NOT_EXIST": "RESOURCE_NOT_FOUND",
    "INVALID_STATE": "CLIENT_INTERNAL_ERROR",
    "INTERNAL_ERROR": "CLIENT_INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE": "CLIENT_INTERNAL_ERROR",
}
_CLIENT_INTERNAL: Final = "CLIENT_INTERNAL_ERROR"


class MlflowError(RunstreamError):
    """A request that is answered with one of MLflow's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str) -> MlflowError:
    """Something in the request cannot be."""
    return MlflowError("INVALID_PARAMETER_VALUE", message)


def missing(message: str) -> MlflowError:
    """What the request names does not exist."""
    return MlflowError("RESOURCE_DOES_NOT_EXIST", message)


def unknown_endpoint(method: str, path: str) -> MlflowError:
    """Nothing is served there."""
    return MlflowError(
        "ENDPOINT_NOT_FOUND",
        f"{method} {path:.200} is not served here: runstream keeps experiments, runs, metrics and artifacts, and no "
        "models, traces or prompts.",
    )


def to_answer(error: Exception) -> Response[bytes]:
    """What a request is answered that failed; what nobody foresaw is logged, and not told."""
    code, status = _code_of(error)
    message = "the server made a mistake, and has logged it" if code == "INTERNAL_ERROR" else _message(error)
    if code in {"INTERNAL_ERROR", "DATA_LOSS"}:
        _log.error("a request failed", reason=repr(error), exc_info=error)
    document: dict[str, Any] = {"error_code": code, "message": message}
    if code in _CLASSES:
        document["sqlstate"] = "XXM00" if _CLASSES[code] == _CLIENT_INTERNAL else "KAM00"
        document["error_class"] = _CLASSES[code]
    headers = {"retry-after": str(RETRY_AFTER)} if status == 503 else {}
    return Response(msgspec.json.encode(document), status_code=status, media_type="application/json", headers=headers)


def _code_of(error: Exception) -> tuple[str, int]:
    if isinstance(error, HTTPException):
        return "BAD_REQUEST", error.status_code
    code = "INTERNAL_ERROR"
    if isinstance(error, MlflowError):
        code = error.code
    elif isinstance(error, NotFoundError):
        code = "RESOURCE_DOES_NOT_EXIST"
    elif isinstance(error, InvalidInputError):
        code = "INVALID_PARAMETER_VALUE"
    elif isinstance(error, EnvironmentUnavailableError):
        code = "TEMPORARILY_UNAVAILABLE"
    elif isinstance(error, CorruptDataError):
        code = "DATA_LOSS"
    return code, _STATUS[code]


def _message(error: Exception) -> str:
    return error.detail if isinstance(error, HTTPException) else str(error)
