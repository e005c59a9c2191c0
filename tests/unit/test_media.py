"""Text, dicts, images and figures as files, in the format that the name says."""

import json
import math
import subprocess
import sys
import types
from importlib import import_module
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import PIL.Image
import plotly.graph_objects
import pytest
import yaml

from runstream.media import dict_bytes, figure_bytes, image_bytes, image_path, preview_bytes, text_bytes
from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError

mpl.use("agg")


def picture(data: bytes) -> PIL.Image.Image:
    """The image that the bytes hold."""
    image = PIL.Image.open(BytesIO(data))
    image.load()
    return image


def test_text_is_utf_8() -> None:
    """Newlines stay, a lone surrogate is escaped, and other types are refused."""
    assert text_bytes("é\r\n\ud800") == "é\r\n\\ud800".encode()
    with pytest.raises(InvalidInputError, match="not bytes"):
        text_bytes(b"x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.json", "a", "a.txt", "a.yaml.json"])
def test_a_dict_is_indented_json(name: str) -> None:
    """Also where the suffix is another; objects become text; NaN is kept as JavaScript writes it."""
    value = {"b": [1, None, True], "a": {"x": math.inf}, 1: "é\ud800"}
    text = dict_bytes(value, name).decode()
    assert json.loads(text) == {"b": [1, None, True], "a": {"x": math.inf}, "1": "é\ud800"}
    assert text.startswith('{\n  "b": [\n')
    assert json.loads(dict_bytes({"n": np.int64(3), "o": {1}}, name)) == {"n": "3", "o": "{1}"}
    assert json.loads(dict_bytes([1], name)) == [1]


@pytest.mark.parametrize("name", ["a.yaml", "a.yml", "A.YAML"])
def test_a_dict_is_yaml_where_the_name_says_so(name: str) -> None:
    """Block style, as in MLflow; without PyYAML it is JSON, which any YAML reader takes."""
    value = {"b": [1, None], "a": {"x": "é"}}
    assert yaml.safe_load(dict_bytes(value, name)) == value
    assert dict_bytes(value, name).startswith(b"a:\n")


def test_yaml_without_pyyaml_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing optional package takes no data away."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    data = dict_bytes({"a": [1]}, "a.yaml")
    assert json.loads(data) == {"a": [1]}
    assert yaml.safe_load(data) == {"a": [1]}


def test_what_json_cannot_hold_is_refused() -> None:
    """A key that is no scalar, and a dict inside itself."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    for value in ({(1, 2): 3}, endless):
        with pytest.raises(InvalidInputError, match=r"cannot write this dict as a\.json"):
            dict_bytes(value, "a.json")


@pytest.mark.parametrize(
    ("array", "mode", "pixel"),
    [
        (np.full((2, 3), 7, dtype=np.uint8), "L", 7),
        (np.full((2, 3, 1), 7, dtype=np.int64), "L", 7),
        (np.full((2, 3, 3), 255, dtype=np.int32), "RGB", (255, 255, 255)),
        (np.full((2, 3, 4), 1, dtype=np.uint16), "RGBA", (1, 1, 1, 1)),
        (np.full((2, 3), True), "L", 255),
        (np.full((2, 3, 3), 0.2, dtype=np.float32), "RGB", (51, 51, 51)),
        (np.full((2, 3), 1.0), "L", 255),
        (np.full((2, 3), 0.0, dtype=np.float16), "L", 0),
    ],
)
def test_an_array_is_an_image(array: Any, mode: str, pixel: Any) -> None:
    """Grey, RGB and RGBA from integers, floats and booleans."""
    image = picture(image_bytes(array, "a.png"))
    assert (image.mode, image.size, image.getpixel((2, 1))) == (mode, (3, 2), pixel)


def test_floats_out_of_range_are_rescaled_with_a_warning() -> None:
    """As in MLflow; a constant image is black."""
    with pytest.warns(UserWarning, match=r"values from -1\.0 to 3\.0 are rescaled"):
        image = picture(image_bytes(np.array([[-1.0, 3.0]]), "a.png"))
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [0, 255]
    with pytest.warns(UserWarning, match="rescaled"):
        assert picture(image_bytes(np.full((1, 1), 9.0), "a.png")).getpixel((0, 0)) == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((2, 2), 256), "from 0 to 255, not 256 to 256"),
        (np.full((2, 2), -1), "not -1 to -1"),
        (np.full((2, 2), np.nan), "must be finite"),
        (np.array([[0.0, np.inf]]), "must be finite"),
        (np.zeros(4), "has the shape"),
        (np.zeros((2, 2, 2)), "has the shape"),
        (np.zeros((0, 2)), "has the shape"),
        (np.array([["a"]]), "integers, floats or booleans"),
        ([[1, 2]], "not list"),
        ("image.png", "not str"),
    ],
)
def test_what_is_no_image_is_refused(image: Any, message: str) -> None:
    """The message says what was found."""
    with pytest.raises(InvalidInputError, match=message):
        image_bytes(image, "a.png")


@pytest.mark.parametrize(
    ("mode", "size", "small"),
    [("RGB", (512, 256), (256, 128)), ("RGBA", (100, 1000), (26, 256)), ("I;16", (40, 30), (40, 30))],
)
def test_a_preview_is_a_small_image(mode: str, size: tuple[int, int], small: tuple[int, int]) -> None:
    """As wide or as high as MLflow's; what is smaller stays as it is."""
    picture = PIL.Image.new(mode, size)
    preview = preview_bytes(picture)
    assert preview is not None
    with PIL.Image.open(BytesIO(preview)) as image:
        assert (image.format, image.size) == ("WEBP", small)
    assert picture.size == size


def test_an_image_that_has_no_preview_is_logged_without_one() -> None:
    """There are images that Pillow writes as PNG alone, or not at all."""
    assert preview_bytes(PIL.Image.new("La", (2, 2))) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.png", "PNG"), ("a", "PNG"), ("a/b.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP"), ("a.gif", "GIF")],
)
def test_the_suffix_says_the_format_of_an_image(name: str, kind: str) -> None:
    """PNG where it says nothing; an object with ``to_pil``, as MLflow's images, is one too."""
    image = PIL.Image.new("RGB", (3, 2))
    assert picture(image_bytes(image, name)).format == kind

    class Wrapped:
        def to_pil(self) -> PIL.Image.Image:
            return image

    assert image_bytes(Wrapped(), name) == image_bytes(image, name)


def test_a_format_that_cannot_be_is_refused() -> None:
    """An unknown suffix, and a mode that the format does not have."""
    with pytest.raises(InvalidInputError, match=r"no image format has the suffix \.xyz"):
        image_bytes(PIL.Image.new("RGB", (1, 1)), "a.xyz")
    with pytest.raises(InvalidInputError, match="cannot be written as JPEG"):
        image_bytes(PIL.Image.new("RGBA", (1, 1)), "a.jpg")


def test_an_array_without_pillow_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command that helps."""
    for name in ("PIL", "PIL.Image"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EnvironmentUnavailableError, match="pip install pillow"):
        image_bytes(np.zeros((2, 2)), "a.png")


def test_an_image_of_a_series_lies_where_mlflow_looks() -> None:
    """Key, step and time stand in the name; a hostile key is refused."""
    assert image_path("dogs/big one", 3, 17, "abc") == "images/dogs~big one+step+3+timestamp+17+abc.png"
    for key in ("", "a\n", "a+b", "é"):
        with pytest.raises(InvalidInputError, match="an image's key"):
            image_path(key, 0, 0, "u")


def test_a_matplotlib_figure_is_saved_as_the_suffix_says() -> None:
    """PNG where it says nothing; arguments are handed on."""
    figure = matplotlib.figure.Figure(figsize=(2, 1))
    figure.add_subplot().plot([1, 2])
    assert picture(figure_bytes(figure, "a.png", {"dpi": 50})).size == (100, 50)
    assert picture(figure_bytes(figure, "a")).format == "PNG"
    assert figure_bytes(figure, "a.pdf").startswith(b"%PDF")
    assert figure_bytes(figure, "a.txt", {"format": "svg"}).startswith(b"<?xml")
    with pytest.raises(InvalidInputError, match=r"matplotlib cannot write 'a\.xyz'"):
        figure_bytes(figure, "a.xyz")


def test_a_plotly_figure_is_a_page_or_json() -> None:
    """The page loads plotly's script from its network address, as in MLflow, unless told otherwise."""
    figure = plotly.graph_objects.Figure(plotly.graph_objects.Scatter(x=[0], y=["é\ud800"]))
    page = figure_bytes(figure, "a.html", {"auto_open": True})
    assert b"<html>" in page
    assert len(page) < 1 << 20
    assert len(figure_bytes(figure, "a.html", {"include_plotlyjs": True})) > 1 << 20
    assert json.loads(figure_bytes(figure, "a.json"))["data"][0]["x"] == [0]
    for name in ("a.xyz", "a"):
        with pytest.raises(InvalidInputError, match="plotly writes"):
            figure_bytes(figure, name)


def test_a_plotly_image_needs_kaleido(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the package makes is taken; without it the message is the command that helps."""
    figure = plotly.graph_objects.Figure()
    base = import_module("plotly.basedatatypes").BaseFigure

    def refuse(_figure: Any, **_arguments: Any) -> bytes:
        raise ValueError("needs the kaleido package")

    monkeypatch.setattr(base, "to_image", refuse)
    with pytest.raises(EnvironmentUnavailableError, match="pip install kaleido"):
        figure_bytes(figure, "a.png")
    monkeypatch.setattr(base, "to_image", lambda _figure, **arguments: json.dumps(arguments).encode())
    assert figure_bytes(figure, "a.jpg", {"width": 5}) == b'{"format": "jpeg", "width": 5}'


def test_another_object_is_no_figure() -> None:
    """The message names its type."""
    with pytest.raises(InvalidInputError, match="not SimpleNamespace"):
        figure_bytes(types.SimpleNamespace(savefig=1), "a.png")


def test_no_library_is_imported_for_a_value_of_another() -> None:
    """Neither by the module, nor by text, a dict, or a value that is nothing of the kind."""
    code = (
        "import sys; from runstream.media import *; text_bytes('a'); dict_bytes({}, 'a.json')\n"
        "for call in (image_bytes, figure_bytes):\n"
        "    try: call('x', 'a.png')\n"
        "    except ValueError: pass\n"
        "print(sorted({'numpy', 'PIL', 'matplotlib', 'plotly', 'yaml', 'pandas', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
