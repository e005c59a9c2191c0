"""Litestar's decorators, with the problems that every operation of the native API may answer with."""

from collections.abc import Mapping
from functools import partial
from typing import Final

import litestar
from litestar.openapi.datastructures import ResponseSpec

from runstream_sink.http.problems import PROBLEM, Problem

__all__ = ["PROBLEMS", "READING", "delete", "get", "patch", "post", "put"]


def _problem(description: str) -> ResponseSpec:
    return ResponseSpec(Problem, description=description, media_type=PROBLEM, generate_examples=False)


READING: Final[Mapping[int, ResponseSpec]] = {
    400: _problem("Something about the request is wrong; the detail says what"),
    404: _problem("There is no such thing"),
    503: _problem("The store cannot be read now; try again after Retry-After seconds"),
}
"""Of operations that change nothing."""
PROBLEMS: Final[Mapping[int, ResponseSpec]] = {
    **READING,
    409: _problem("It contradicts what is there"),
    503: _problem("It could not be applied in time; see docs/http.md before trying again"),
}
"""Of operations that change something."""

get = partial(litestar.get, responses=READING)
post = partial(litestar.post, responses=PROBLEMS)
put = partial(litestar.put, responses=PROBLEMS)
patch = partial(litestar.patch, responses=PROBLEMS)
delete = partial(litestar.delete, responses=PROBLEMS)
