"""How models are kept in a run's tags, and found."""

import msgspec
import pytest

from runstream.mlflow_plugin.model_records import HAS_MODELS, MODEL, ModelRecord, is_about_models, models_of, selector
from runstream_schemas.errors import InvalidInputError

RECORD = ModelRecord(
    "m-1", "model", "7", "f" * 32, "model", 1, 2, None, "READY", {"depth": "3"}, {"a b": "x", "who": "it's", "n.m": ""}
)


def test_a_run_s_tags_keep_its_models() -> None:
    """What something else has put into such a tag is passed over."""
    tags = {MODEL + "m-1": msgspec.json.encode(RECORD).decode(), MODEL + "m-2": "no JSON", "mine": "x"}
    assert list(models_of(tags)) == [RECORD]
    assert [is_about_models(key) for key in (*tags, HAS_MODELS, "runstream.output.m-1", "runstream.input.x")] == [
        True,
        True,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", True),
        ("  ", True),
        ("name = 'model'", True),
        ("name='other'", False),
        ("attributes.name != 'other' and status = \"READY\"", True),
        ("tags.`a b` = 'x' AND params.depth = '3' AND tags.n.m = ''", True),
        ('tags."who" = "it\'s"', True),
        ("params.depth != '3'", False),
        ("tags.nobody != 'x'", False),
        ("model_type = 'x'", False),
    ],
)
def test_models_are_found_by_equalities(text: str, found: bool) -> None:
    """What lacks a key meets no comparison with it."""
    assert selector(text)(RECORD) == found


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "metrics.acc = '1'",
        "path = 'x'",
        "name = 'a' name = 'b'",
        "name LIKE 'x'",
        "name = 'a' AND",
        "name = 1",
    ],
)
def test_other_filters_are_refused(text: str) -> None:
    """With a sentence that says what is taken."""
    with pytest.raises(InvalidInputError, match="joined by AND"):
        selector(text)
