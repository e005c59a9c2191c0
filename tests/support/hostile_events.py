"""Good events of many kinds, to be changed into hostile ones."""

import math
from typing import Any

from runstream_schemas import events as ev
from runstream_schemas.values import RowEncoder

__all__ = ["BODIES", "EVENTS", "RUN", "nested"]

RUN = "0" * 31 + "1"


def nested(levels: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


EVENTS = [
    ev.RunStarted(RUN, "7", 1, "name", "user"),
    ev.RunUpdated(RUN, "name", "FAILED"),
    ev.RunEnded(RUN, "FINISHED", 2),
    ev.ParamsLogged(RUN, {"k": "v", "ü": "\0"}),
    ev.MetricLogged(RUN, "m", math.nan, 1, 2),
    ev.MetricsLogged(RUN, {"m": 1.0, "n": -0.0}, 1, 2),
    ev.TagsSet(RUN, {"k": "v"}),
    ev.TagDeleted(RUN, "k"),
    ev.RowsLogged(RUN, "t", ["a", "b"], [[1, "x"], [None, [1, {"k": 2**70}]], [nested(70), b"\xff"]]),
    ev.ArtifactLogged(RUN, "a/b.txt", "ab" * 32, 3, "text/plain"),
    ev.ExperimentCreated("7", "name", 1, {"k": "v"}),
    ev.ExperimentRenamed("7", "other"),
    ev.ExperimentTagsSet("7", {"k": "v"}),
    ev.ExperimentTagDeleted("7", "k"),
    ev.ExperimentDeleted("7"),
    ev.RunDeleted(RUN),
    ev.LossNotice("ab" * 16, 1, "quota", 5),
    ev.Abandoned(),
    ev.ArtifactInlined(RUN, "x.txt", b"content", "text/plain"),
]
BODIES = [RowEncoder().encode(event) for event in EVENTS]
