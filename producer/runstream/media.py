"""What ``log_text``, ``log_dict``, ``log_image`` and ``log_figure`` log: values as the bytes of a file.

The file's suffix decides the format, as in MLflow.  Pillow, numpy, matplotlib, plotly and PyYAML are asked for only if
the value is one of theirs or the format needs them.
"""

import re
import sys
import warnings
from collections.abc import Mapping
from importlib import import_module
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, Final

from runstream_schemas.errors import EnvironmentUnavailableError, InvalidInputError
from runstream_schemas.values import escape_surrogates, to_text

__all__ = [
    "as_picture",
    "dict_bytes",
    "figure_bytes",
    "image_bytes",
    "image_path",
    "preview_bytes",
    "preview_path",
    "text_bytes",
]

_PREVIEW: Final = 256
"""Pixels in each direction, as in MLflow."""
_IMAGE_KEY: Final = re.compile(r"[a-zA-Z0-9_\-./ ]+")
_PLOTLY_IMAGES: Final = {"png": "png", "jpg": "jpeg", "jpeg": "jpeg", "webp": "webp", "svg": "svg", "pdf": "pdf"}


def text_bytes(text: str) -> bytes:
    """Text in UTF-8; lone surrogates become their escapes.  Raises `InvalidInputError` for what is no text."""
    if not isinstance(text, str):
        raise InvalidInputError(f"log_text takes text, not {type(text).__name__}; convert it with str()")
    return escape_surrogates(text).encode()


def dict_bytes(value: Any, artifact_file: str) -> bytes:
    """A dict or list as indented JSON; as YAML where the name ends in ``.yaml`` or ``.yml`` and PyYAML is installed.

    (Without PyYAML it is JSON there too, which is YAML.)  Objects that JSON does not know become their ``str()``.
    Raises `InvalidInputError` for what cannot be written: keys that are no scalars, a dict inside itself.
    """
    dump = _yaml_dump() if _suffix(artifact_file) in {"yaml", "yml"} else None
    try:
        return escape_surrogates(dump(value) if dump else _json(value)).encode()
    except Exception as error:
        raise InvalidInputError(
            f"log_dict cannot write this {type(value).__name__} as {artifact_file}: {error}"
        ) from error


def image_path(key: str, step: int, timestamp: int, unique: str) -> str:
    """Where an image of a series lies, as MLflow's pages find it; ``timestamp`` in milliseconds.

    Raises `InvalidInputError` for a key with other characters than letters, digits, and ``_-./`` or space.
    """
    if not _IMAGE_KEY.fullmatch(key):
        raise InvalidInputError(
            f"an image's key has letters, digits, spaces and the characters _-./ only, not {key!r:.100}"
        )
    return f"images/{key.replace('/', '~')}+step+{step}+timestamp+{timestamp}+{unique}.png"


def preview_path(path: str) -> str:
    """Where the small version of an image of a series lies, which MLflow's pages show in its place."""
    return f"{path.removesuffix('.png')}+compressed.webp"


def image_bytes(image: Any, artifact_file: str) -> bytes:
    """A PIL image, a numpy array or an object with ``to_pil()`` as an image file, PNG where the name has no suffix.

    An array has the shape (height, width), or (height, width, channels) with 1, 3 or 4 channels.  Its values are
    integers from 0 to 255, booleans, or floats from 0 to 1 (others are rescaled to that range, with a warning).
    Raises `InvalidInputError` for anything else, `EnvironmentUnavailableError` if Pillow is not installed.
    """
    picture = as_picture(image)
    suffix = _suffix(artifact_file) or "png"
    kind = _pillow().registered_extensions().get(f".{suffix}")
    if kind is None:
        raise InvalidInputError(f"no image format has the suffix .{suffix}; end {artifact_file!r:.100} in .png or .jpg")
    buffer = BytesIO()
    try:
        picture.save(buffer, format=kind)
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInputError(f"this image cannot be written as {kind}: {error}; use .png or convert it") from error
    return buffer.getvalue()


def preview_bytes(picture: Any) -> bytes | None:
    """A PIL image within 256 by 256 pixels, as WebP; None where Pillow cannot write it so."""
    small, buffer = picture.copy(), BytesIO()
    try:
        small.thumbnail((_PREVIEW, _PREVIEW))
        small.save(buffer, format="WEBP")
    except (OSError, KeyError, ValueError):
        return None
    return buffer.getvalue()


def figure_bytes(figure: Any, artifact_file: str, save_kwargs: Mapping[str, Any] | None = None) -> bytes:
    """A figure of matplotlib or plotly as the file that the suffix says; ``save_kwargs`` go to what writes it.

    Raises `InvalidInputError` for other objects and formats, `EnvironmentUnavailableError` if plotly cannot make images
    (it needs the package kaleido).
    """
    arguments = dict(save_kwargs or {})
    if _is_instance(figure, "matplotlib.figure", "FigureBase"):
        return _matplotlib_bytes(figure, artifact_file, arguments)
    if _is_instance(figure, "plotly.basedatatypes", "BaseFigure"):
        return _plotly_bytes(figure, artifact_file, arguments)
    raise InvalidInputError(f"log_figure takes a figure of matplotlib or plotly, not {type(figure).__name__}")


def _suffix(artifact_file: str) -> str:
    return PurePosixPath(artifact_file).suffix[1:].lower()


def _is_instance(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class whose module somebody has imported."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, getattr(loaded, name))


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, default=to_text)


def _yaml_dump() -> Any:
    try:
        yaml = import_module("yaml")
    except ImportError:
        return None
    return lambda value: yaml.dump(value, indent=2, default_flow_style=False)


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise EnvironmentUnavailableError("log_image needs Pillow; install it with: pip install pillow") from error
    return PIL.Image


def as_picture(image: Any) -> Any:
    """A PIL image of what `image_bytes` takes; raises what that raises."""
    if _is_instance(image, "PIL.Image", "Image"):
        return image
    if _is_instance(image, "numpy", "ndarray"):
        return _pillow().fromarray(_pixels(image))
    if callable(getattr(type(image), "to_pil", None)):  # mlflow.Image
        return image.to_pil()
    raise InvalidInputError(f"log_image takes a PIL image or a numpy array, not {type(image).__name__}")


def _pixels(array: Any) -> Any:
    """An array of bytes in a shape that Pillow takes."""
    if array.dtype.kind not in "biuf":
        raise InvalidInputError(f"an image's values are integers, floats or booleans, not {array.dtype}")
    if array.ndim not in {2, 3} or array.size == 0 or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        raise InvalidInputError(
            f"an image has the shape (height, width) or (height, width, 1, 3 or 4), not {array.shape}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    scaled = {"b": _from_booleans, "f": _from_floats}.get(array.dtype.kind, _from_integers)(array)
    return scaled.astype("uint8")


def _from_booleans(array: Any) -> Any:
    return array * 255


def _from_integers(array: Any) -> Any:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 255:
        raise InvalidInputError(f"an image's integers are from 0 to 255, not {low} to {high}")
    return array


def _from_floats(array: Any) -> Any:
    low, high = float(array.min()), float(array.max())
    if not high - low < float("inf"):
        raise InvalidInputError("an image's floats must be finite; replace NaN and infinities first")
    if low < 0 or high > 1:
        warnings.warn(f"image values from {low} to {high} are rescaled to 0 to 1", stacklevel=2)
        array = (array - low) / ((high - low) or 1)
    return (array * 255).round()


def _matplotlib_bytes(figure: Any, artifact_file: str, arguments: dict[str, Any]) -> bytes:
    buffer = BytesIO()
    kind = arguments.pop("format", None) or _suffix(artifact_file) or "png"
    try:
        figure.savefig(buffer, format=kind, **arguments)
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"matplotlib cannot write {artifact_file!r:.100}: {error}") from error
    return buffer.getvalue()


def _plotly_bytes(figure: Any, artifact_file: str, arguments: dict[str, Any]) -> bytes:
    suffix = _suffix(artifact_file)
    if suffix in {"html", "htm"}:
        arguments.pop("auto_open", None)
        return escape_surrogates(figure.to_html(**{"include_plotlyjs": "cdn"} | arguments)).encode()
    if suffix == "json":
        return escape_surrogates(figure.to_json(**arguments)).encode()
    kind = _PLOTLY_IMAGES.get(suffix)
    if kind is None:
        raise InvalidInputError(
            f"plotly writes .html, .json, .png, .jpg, .webp, .svg and .pdf, not {artifact_file!r:.100}"
        )
    try:
        data: bytes = figure.to_image(format=kind, **arguments)
    except (ValueError, ImportError, RuntimeError) as error:
        raise EnvironmentUnavailableError(
            f"plotly cannot write {artifact_file!r:.100}: {error}; install kaleido (pip install kaleido) or log .html"
        ) from error
    return data
