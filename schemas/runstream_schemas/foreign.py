"""Values of other libraries and of the user's classes: the plain value inside."""

import dataclasses
from contextlib import suppress
from typing import Any, Final

import msgspec

__all__ = ["unwrap"]

_CONVERSIONS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("tolist", {}),  # numpy, pandas Series, torch, array.array
    ("to_list", {}),  # polars Series
    ("as_py", {}),  # pyarrow scalar
    ("to_pydict", {}),  # pyarrow Table
    ("to_pylist", {}),  # pyarrow array
    ("model_dump", {}),  # pydantic
    ("to_dict", {"orient": "list"}),  # pandas DataFrame
    ("to_dict", {}),
)


def unwrap(value: Any) -> Any:
    """The plain value inside a value of a foreign library or class; the value itself where there is none."""
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return _struct_fields(value)
    if hasattr(kind, "__dataclass_fields__"):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    dtype = getattr(getattr(value, "dtype", None), "kind", "")
    if dtype in {"M", "m"}:
        return list(value) if value.ndim else _numpy_time(value, dtype)
    return _converted(value, dtype)


def _struct_fields(struct: msgspec.Struct) -> dict[str, Any]:
    names = zip(struct.__struct_encode_fields__, struct.__struct_fields__, strict=True)
    fields = {encoded: getattr(struct, name) for encoded, name in names}
    return {name: item for name, item in fields.items() if item is not msgspec.UNSET}


def _numpy_time(value: Any, dtype: str) -> Any:
    text = str(value)
    if text == "NaT":
        return None
    return text if dtype == "M" else value.astype("timedelta64[us]").item()


def _converted(value: Any, dtype: str) -> Any:
    for method, arguments in _CONVERSIONS:
        if callable(getattr(type(value), method, None)):  # asked of the class: a mock has every attribute
            with suppress(Exception):
                found = getattr(value, method)(**arguments)
                if type(found) is not type(value):
                    return found
    return float(value) if dtype == "f" else value  # numpy.longdouble has no other Python value
