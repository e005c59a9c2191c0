"""Errors as answers: RFC 9457 problem details, and which error has which status."""

from http import HTTPStatus
from traceback import format_exception
from typing import Any, Final

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import Struct

from runstream_schemas.errors import (
    CorruptDataError,
    EnvironmentUnavailableError,
    InvalidInputError,
    ParamConflictError,
    RunstreamError,
)
from runstream_sink.query.records import NotFoundError

__all__ = [
    "PROBLEM",
    "RETRY_AFTER",
    "ConflictError",
    "Problem",
    "TooLargeError",
    "code_of",
    "problem_of",
    "to_response",
]

PROBLEM: Final = "application/problem+json"
RETRY_AFTER: Final = 5
"""Seconds after which it is worth trying again."""
_log = structlog.get_logger(__name__)


class ConflictError(InvalidInputError):
    """What is asked for contradicts what is there: a name that is taken, a run that is deleted."""


class TooLargeError(InvalidInputError):
    """More bytes were sent than are taken."""


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, for programs (``code``) and for people (``detail``)."""

    status: int
    code: str
    """A word to tell cases apart by: ``not_found``, ``invalid``, ``conflict``, ``unavailable``, ..."""
    detail: str
    type: str = "about:blank"
    title: str = ""


_CODES: Final[tuple[tuple[type[Exception], int, str], ...]] = (
    (NotFoundError, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (ParamConflictError, 409, "conflict"),
    (TooLargeError, 413, "too_large"),
    (InvalidInputError, 400, "invalid"),
    (EnvironmentUnavailableError, 503, "unavailable"),
    (CorruptDataError, 500, "damaged"),
    (RunstreamError, 500, "error"),
    (RecursionError, 400, "invalid"),
)
_OF_STATUS: Final = {
    400: "invalid",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
}


def code_of(error: Exception) -> tuple[int, str]:
    """The status of an error, and the word for it; 500 and ``internal`` for what nobody foresaw."""
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return status, code
    if isinstance(error, HTTPException):
        return error.status_code, _OF_STATUS.get(error.status_code, "error")
    return 500, "internal"


def problem_of(error: Exception) -> Problem:
    """What is told about an error: nothing of what nobody foresaw."""
    status, code = code_of(error)
    if code == "internal":
        detail = "the server made a mistake, and has logged it"
    elif isinstance(error, HTTPException):
        detail = _detail(error)
    elif isinstance(error, RecursionError):
        detail = "the values are nested too deeply"
    else:
        detail = str(error)
    return Problem(status=status, code=code, detail=detail, title=HTTPStatus(status).phrase)


def to_response(_request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Litestar's handler of all exceptions."""
    problem = problem_of(error)
    if problem.status >= 500 and problem.status != 503:
        # As text: what prints tracebacks on a terminal shows the values of variables, and so what was sent.
        _log.error("a request failed", reason=repr(error), traceback="".join(format_exception(error)))
    headers = {"retry-after": str(RETRY_AFTER)} if problem.status == 503 else {}
    if isinstance(error, HTTPException):
        headers |= {name: str(value) for name, value in (error.headers or {}).items()}
    return Response(problem, status_code=problem.status, media_type=PROBLEM, headers=headers)


def _detail(error: HTTPException) -> str:
    """What Litestar says, with what it says about each place."""
    extra = error.extra if isinstance(error.extra, list) else []
    places = [f"{one.get('key', 'body')}: {one.get('message', '')}" for one in extra if isinstance(one, dict)]
    return "; ".join([error.detail.partition(" for ")[0] if places else error.detail, *places])
