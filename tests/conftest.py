"""What every test folder shares: how hard Hypothesis looks, and names of tests that every process agrees on."""

import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

os.environ.setdefault("RUNSTREAM_HTTP", "no")  # sinks of tests that run at once would want the same port

settings.register_profile("fast", max_examples=20, deadline=None)
settings.register_profile("default", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("long", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(autouse=True)
def unconfigured_logs() -> Iterator[None]:
    """What a test has made of structlog, by `capture_logs` too, is not left to the next one."""
    yield
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse names with an address in them: the processes that share the tests out would not agree on them."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError("give these tests ids without addresses:\n" + "\n".join(unstable))
