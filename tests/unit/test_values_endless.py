"""Values that hold themselves, have no end, raise or change while they are read: encoding ends, and never raises."""

import dataclasses
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import pytest

from runstream_schemas.events import RowsLogged
from runstream_schemas.values import MAX_DEPTH, RowEncoder
from support.rows import RUN, trip


@dataclasses.dataclass
class _Point:
    x: Any
    y: Any = None


@pytest.mark.parametrize("fan_out", [1, 2, 30])
def test_a_container_that_holds_itself_ends(fan_out: int) -> None:
    """The inner one is elided as Python does, and counted."""
    value: list[Any] = []
    value.extend([value] * fan_out)
    assert trip(value) == ([["[...]"] * fan_out], fan_out)
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    assert trip([mapping]) == ([[{"self": "{...}"}]], 1)


def test_an_object_that_holds_itself_ends() -> None:
    """Also where the cycle leads through objects."""
    point = _Point(1)
    point.y = [point]
    assert trip(point) == ([{"x": 1, "y": ["{...}"]}], 1)


def test_depth_has_a_limit() -> None:
    """64 containers inside one another are kept, the next is its text."""
    kept: Any = "leaf"
    for _ in range(MAX_DEPTH):
        kept = [kept]
    assert trip(kept) == ([kept], 0)
    (deeper,), converted = trip([[kept]])
    for _ in range(MAX_DEPTH):
        (deeper,) = deeper
    assert (deeper, converted) == ("[['leaf']]", 1)


@pytest.mark.slow
def test_nesting_that_is_shared_many_times_ends() -> None:
    """A structure whose text would have 2**100 leaves is cut, quickly and counted."""
    for wrap in (lambda inner: [inner, inner], lambda inner: {"a": inner, "b": inner}):
        value: Any = 0
        for _ in range(100):
            value = wrap(value)
        (result,), converted = trip(value)
        assert result
        assert converted > 0


def test_objects_that_unwrap_for_ever_end() -> None:
    """A class whose conversion gives another object of its kind is text in the end."""

    class Endless:
        def tolist(self) -> Any:
            return [Endless()]

    class Same:
        def tolist(self) -> "Same":
            return self

        def __str__(self) -> str:
            return "same"

    assert trip(Same()) == (["same"], 1)
    assert trip(Endless())[1] == 1


def test_a_mock_is_not_asked_for_ever() -> None:
    """It has every attribute; only what its class has counts."""
    for stand_in in (mock.Mock(), mock.MagicMock(), mock.Mock(spec=dict), mock.Mock(spec=str)):
        assert trip(stand_in) == ([str(stand_in)], 1)


def test_a_conversion_that_raises_is_passed_over() -> None:
    """The next one is tried."""

    class Frame:
        def tolist(self) -> Any:
            raise ValueError

        def to_dict(self) -> dict[str, int]:
            return {"a": 1}

    assert trip(Frame()) == ([{"a": 1}], 0)


def test_a_thread_that_changes_a_mapping_does_not_stop_the_call() -> None:
    """A mapping that changes while it is read is read again, and is text in the end."""

    class Moving(Mapping[str, int]):
        def __init__(self, failures: int) -> None:
            self.failures = failures

        def __getitem__(self, key: str) -> int:
            return 1

        def __len__(self) -> int:
            return 1

        def __iter__(self) -> Iterator[str]:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("dictionary changed size during iteration")
            return iter("k")

        def __str__(self) -> str:
            return "moving"

    assert trip(Moving(3)) == ([{"k": 1}], 0)
    assert trip(Moving(1000)) == (["moving"], 1)


def test_real_threads_may_change_what_is_logged() -> None:
    """No call raises while other threads grow and shrink the value."""
    shared: dict[str, Any] = {"list": [], "dict": {}}
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            shared["dict"] = {str(n): {n: [n]} for n in range(20)}
            shared["list"].append({"a": 1})
            shared["list"][50:] = []
            shared[str(len(shared))] = 1
            shared.popitem()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            trip(shared, [shared])
    finally:
        stop.set()
        thread.join()


def test_an_interruption_passes_through() -> None:
    """KeyboardInterrupt is not a value's fault."""

    class Interrupts:
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trip(Interrupts())


def test_a_stack_that_is_nearly_full_gives_text() -> None:
    """What cannot be walked any more is given up, not raised."""
    value: Any = {1: "leaf"}
    for _ in range(50):
        value = [value]

    def descend(left: int) -> int:
        return descend(left - 1) if left else trip(value)[1]

    depth = 0
    frame: Any = sys._getframe()
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    assert descend(sys.getrecursionlimit() - depth - 60) >= 1


def test_counts_of_all_threads_add_up() -> None:
    """One encoder is shared; no count is lost."""
    encoder = RowEncoder()
    event = RowsLogged(RUN, "t", ["a"], [["\ud800"]])
    threads = [threading.Thread(target=lambda: [encoder.encode(event) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert encoder.converted == 800
