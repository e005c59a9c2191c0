"""MLflow's own server and the sink answer the same sequences of REST calls alike: status, code, message and body."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from support.mlflow_calls import sequences
from support.mlflow_pair import Asked, Pair, mlflow_pair

pytestmark = pytest.mark.server

_SESSIONS = count()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both servers."""
    with mlflow_pair(tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def _play(pair: Pair, asked: list[Asked]) -> None:
    """One session, as long as both servers hold the same."""
    session, number = pair.session(), next(_SESSIONS)
    for at, one in enumerate(asked):
        given = {name: _of_session(number, value) for name, value in one.given.items()}
        if one.path.endswith("runs/create") and isinstance(given.get("start_time", 0), int | str):
            given["start_time"] = 1000 + at  # runs that began at the same time are ordered by their ids
        if not session.compare(one._replace(given=given)):
            return


def _of_session(number: int, value: Any) -> Any:
    """Names of experiments are of one session alone, so that what was made before does not matter."""
    return value.replace("<session>", f"session {number}") if isinstance(value, str) else value


@settings(max_examples=30, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=sequences(12))
def test_sequences_of_calls_are_answered_alike(pair: Pair, asked: list[Asked]) -> None:
    """Valid and invalid ones."""
    _play(pair, asked)


@pytest.mark.long
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=sequences(30))
def test_very_many_sequences_of_calls_are_answered_alike(pair: Pair, asked: list[Asked]) -> None:
    """The same for longer."""
    _play(pair, asked)
