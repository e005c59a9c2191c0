"""Kafka clusters for tests, as few as will do: they take a second or more to start.

Any test may change them by what `support.kafka.KafkaCluster` offers; `cluster`, `proxied` and `secured` are brought
back before each test.  `broker` must be left running.
"""

import gc
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.kafka import KafkaCluster, wait_for
from support.toxiproxy import Toxiproxy


@pytest.fixture(autouse=True)
def _forgive_what_aiokafka_leaves() -> Iterator[None]:
    """A connection that fails while it is made is closed later, if the loop still runs: no fault of the next test's."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """The name of a topic that nobody else uses and that does not exist yet."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)[:60]}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """One node, without security."""
    with closing(KafkaCluster(tmp_path_factory.mktemp("broker"))) as one:
        one.start()
        yield one


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with closing(KafkaCluster(tmp_path_factory.mktemp("cluster"), 3)) as three:
        three.start()
        yield three


@pytest.fixture
def cluster(_cluster: KafkaCluster) -> KafkaCluster:
    """Three nodes, all running."""
    wait_for(_cluster.restore())
    return _cluster


@pytest.fixture(scope="module")
def _secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with closing(KafkaCluster(tmp_path_factory.mktemp("secured"), secured=True)) as one:
        one.start()
        yield one


@pytest.fixture
def secured(_secured: KafkaCluster) -> KafkaCluster:
    """One node with the users and listeners of support.kafka_security; `alice` and `bob` may do nothing."""
    wait_for(_secured.restore())
    wait_for(_secured.rights.revoke_all())
    return _secured


@pytest.fixture(scope="module")
def toxiproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toxiproxy]:
    """A running toxiproxy."""
    with closing(Toxiproxy(tmp_path_factory.mktemp("toxiproxy"))) as running:
        yield running


@pytest.fixture(scope="module")
def _proxied(toxiproxy: Toxiproxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with closing(KafkaCluster(tmp_path_factory.mktemp("proxied"), toxiproxy=toxiproxy)) as one:
        one.start()
        yield one


@pytest.fixture
def proxied(_proxied: KafkaCluster, toxiproxy: Toxiproxy) -> KafkaCluster:
    """One node, which clients of its listener PROXIED reach through `proxies[1]`; nothing disturbs them yet."""
    toxiproxy.reset()
    wait_for(_proxied.restore())
    return _proxied


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder need a server."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.server)
