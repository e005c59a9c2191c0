"""Reading over the sink's native HTTP API, with the standard library alone."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import msgspec

from runstream.tracking.records import (
    ArtifactRecord,
    ExperimentPage,
    ExperimentRecord,
    Page,
    PointPage,
    RunPage,
    RunRecord,
)
from runstream_schemas.claims import parse_reference
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError, NotFoundError, RunstreamError

__all__ = ["HttpSource"]

_TIMEOUT: Final = 60.0
_NOT_FOUND: Final = 404
_INVALID: Final = range(400, 500)
_REFUSED: Final = (401, 403)
_ROWS: Final = 10_000
_NUMBERS: Final[dict[str, type]] = {"float": float, "int": int}
"""Types of columns whose cells may come as text: not finite, or too large for most readers of JSON."""

T = TypeVar("T")


class _Artifacts(msgspec.Struct, frozen=True):
    artifacts: list[ArtifactRecord]


class _Applied(msgspec.Struct, frozen=True):
    applied: bool


class _Rows(msgspec.Struct, frozen=True):
    columns: dict[str, str]
    rows: list[dict[str, Any]]
    cursor: str | None


class HttpSource:
    """A `Source` that asks a sink at an address such as ``http://host:5600``."""

    def __init__(self, url: str, token: str = "") -> None:
        self._url = url.rstrip("/")
        if not self._url.startswith(("http://", "https://")):
            raise InvalidInputError(f"the sink's address {url!r:.200} does not begin with http:// or https://")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def search_runs(
        self, experiment_ids: Sequence[str] | None, text: str, order_by: Sequence[str], lifecycle: str, page: Page
    ) -> RunPage:
        """See `Source.search_runs`."""
        ids = None if experiment_ids is None else list(experiment_ids)
        return self._ask(
            RunPage, "runs/search", body={"experiment_ids": ids, **_search(text, order_by, lifecycle, page)}
        )

    def search_experiments(self, text: str, order_by: Sequence[str], lifecycle: str, page: Page) -> ExperimentPage:
        """See `Source.search_experiments`."""
        return self._ask(ExperimentPage, "experiments/search", body=_search(text, order_by, lifecycle, page))

    def get_run(self, run_id: str) -> RunRecord:
        """See `Source.get_run`."""
        return self._ask(RunRecord, f"runs/{_part(run_id)}")

    def get_experiment(self, experiment_id: str) -> ExperimentRecord:
        """See `Source.get_experiment`."""
        return self._ask(ExperimentRecord, f"experiments/{_part(experiment_id)}")

    def get_experiment_by_name(self, name: str) -> ExperimentRecord:
        """See `Source.get_experiment_by_name`."""
        return self._ask(ExperimentRecord, "experiments/by-name", name=name)

    def metric_page(self, run_id: str, key: str, page: Page) -> PointPage:
        """See `Source.metric_page`."""
        return self._ask(
            PointPage, f"runs/{_part(run_id)}/metrics/points", key=key, limit=page.limit, cursor=page.cursor
        )

    def list_artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """See `Source.list_artifacts`."""
        return self._ask(_Artifacts, f"runs/{_part(run_id)}/artifacts").artifacts

    def download(self, run_id: str, path: str, target: Path) -> None:
        """See `Source.download`."""
        with self._open(f"runs/{_part(run_id)}/artifacts/{quote(path)}", None, {}) as answer, target.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)

    def load_table(self, table: str, run_id: str, *, references: bool) -> tuple[list[str], list[Mapping[str, Any]]]:
        """See `Source.load_table`."""
        rows: list[Mapping[str, Any]] = []
        cursor = None
        while True:
            page = self._ask(_Rows, f"runs/{_part(run_id)}/tables/rows", table=table, limit=_ROWS, cursor=cursor)
            rows += [self._typed(row, page.columns, None if references else run_id) for row in page.rows]
            cursor = page.cursor
            if cursor is None:
                return list(page.columns), rows

    def artifact_uri(self, run_id: str) -> str:
        """See `Source.artifact_uri`."""
        return f"{self._url}/api/v1/runs/{run_id}/artifacts"

    def is_applied(self, producer_id: bytes, seq: int) -> bool:
        """See `Source.is_applied`."""
        return self._ask(_Applied, "applied", producer_id=producer_id.hex(), seq=seq).applied

    def is_fed(self) -> bool:
        """See `Source.is_fed`: what answers is a sink."""
        return True

    def _typed(self, row: dict[str, Any], columns: Mapping[str, str], run_id: str | None) -> dict[str, Any]:
        """A row with numbers that came as text, and with the values that it refers to if a run is given."""
        for column, cell in row.items():
            if not isinstance(cell, str):
                continue
            number = _NUMBERS.get(columns.get(column, ""))
            if number is not None:
                row[column] = number(cell)
            elif run_id is not None and cell.startswith("artifact:") and (found := parse_reference(cell)) is not None:
                row[column] = self._claimed(run_id, found[0], found[2], cell)
        return row

    def _claimed(self, run_id: str, path: str, kind: str, cell: str) -> Any:
        try:
            with self._open(f"runs/{_part(run_id)}/artifacts/{quote(path)}", None, {}) as answer:
                data = answer.read()
        except NotFoundError:
            return cell  # a text that only looks like a reference
        if kind == "bytes":
            import base64

            return base64.b64encode(data).decode()
        return data.decode() if kind == "text" else json.loads(data)

    def _ask(self, kind: type[T], path: str, body: Any = None, **query: Any) -> T:
        with self._open(path, body, query) as answer:
            data = answer.read()
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise EnvironmentUnavailableError(
                f"{self._url} does not answer as a runstream sink does ({error}); check RUNSTREAM_URL"
            ) from error

    def _open(self, path: str, body: Any, query: Mapping[str, Any]) -> Any:
        asked = urlencode({name: value for name, value in query.items() if value is not None})
        url = f"{self._url}/api/v1/{path}" + (f"?{asked}" if asked else "")
        data = None if body is None else msgspec.json.encode(body)
        headers = self._headers if data is None else {**self._headers, "Content-Type": "application/json"}
        try:
            return urlopen(Request(url, data, headers), timeout=_TIMEOUT)  # noqa: S310 - http or https, checked above
        except HTTPError as error:
            with error:
                raise _explain(error.code, error.read(), self._url) from None
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise EnvironmentUnavailableError(
                f"the sink at {self._url} does not answer ({reason}); is it running, and is RUNSTREAM_URL its address?"
            ) from error


def _search(text: str, order_by: Sequence[str], lifecycle: str, page: Page) -> dict[str, Any]:
    return {
        "filter": text,
        "order_by": list(order_by),
        "lifecycle": lifecycle,
        "limit": page.limit,
        "cursor": page.cursor,
    }


def _part(text: str) -> str:
    return quote(text, safe="") or "-"


def _explain(status: int, body: bytes, url: str) -> RunstreamError:
    """The error that an answer tells."""
    try:
        detail = str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{url} answered with status {status}"
    if status in _REFUSED:
        return EnvironmentUnavailableError(f"{url} refuses: {detail}; set RUNSTREAM_TOKEN")
    if status == _NOT_FOUND:
        return NotFoundError(detail)
    return InvalidInputError(detail) if status in _INVALID else EnvironmentUnavailableError(detail)
